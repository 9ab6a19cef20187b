// Taking back a message that nobody has read yet. The hive decides: what was handed out a moment ago stays.
import { asApiError, request } from "../lib/api";
import { toast } from "../ui";

/** Whether the operator may still take it back, as far as is known here. */
export function canTakeBack(row: { from: string; state: string }): boolean {
  return row.from === "operator" && row.state === "pending";
}

/** Take it back; whether it was. The refusal is told. */
export async function takeBack(id: number): Promise<boolean> {
  try {
    await request({ cmd: "drop", id });
    toast(`Message ${id} was taken back`);
    return true;
  } catch (error) {
    toast(asApiError(error).detail, { tone: "failed" });
    return false;
  }
}
