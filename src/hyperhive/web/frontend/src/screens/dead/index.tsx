// To be written.
import type { ScreenProps } from "../../app/routes";
import { Loading, Page } from "../../ui";

export default function Screen(_props: ScreenProps) {
  return (
    <Page title="Dead">
      <Loading />
    </Page>
  );
}
