"""A forge (Forgejo, Gitea) by its HTTP interface: the private organisation and repositories that mirrors are pushed to.

Makes what is missing, changes nothing that is there, removes nothing. Nothing here runs git.
"""

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from hyperhive.config import ForgeSetting
from hyperhive.errors import WorldError

if TYPE_CHECKING:
    import httpx2

SECONDS: Final = 15.0


class Forge:
    """One server. The token is read anew for each use, and is in no message."""

    def __init__(self, setting: ForgeSetting) -> None:
        self._setting = setting

    def address(self, repo: str) -> str:
        """Where a repository is pushed to."""
        return f"{self._setting.url.rstrip('/')}/{self._setting.org}/{repo}.git"

    async def authorization(self) -> str:
        """The header's value for a push.

        Raises:
            WorldError: the token's file cannot be read.
        """
        pair = f"{self._setting.user}:{await self._token()}"
        return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"

    async def ensure(self, repo: str) -> None:
        """Makes organisation and repository where they are missing, both private.

        Raises:
            WorldError: the server is not there, or refuses.
        """
        token = await self._token()
        try:
            client = await anyio.to_thread.run_sync(_client)
        except (OSError, ValueError, ImportError) as error:  # proxies and CA files that the environment names
            raise WorldError(f"no HTTP client can be made here: {type(error).__name__}") from None
        import httpx2 as http

        org = self._setting.org
        headers = {"authorization": f"token {token}", "accept": "application/json"}
        base = f"{self._setting.url.rstrip('/')}/api/v1"
        try:
            with anyio.fail_after(4 * SECONDS):
                async with client:
                    if await _there(client, f"{base}/repos/{org}/{repo}", headers):
                        return
                    if not await _there(client, f"{base}/orgs/{org}", headers):
                        body: dict[str, object] = {
                            "username": org,
                            "visibility": "private",
                            "repo_admin_change_team_access": False,
                        }
                        _made(
                            await client.post(f"{base}/orgs", json=body, headers=headers), "organisation", 422
                        )
                    body = {"name": repo, "private": True, "auto_init": False, "default_branch": "main"}
                    _made(
                        await client.post(f"{base}/orgs/{org}/repos", json=body, headers=headers),
                        "repository",
                        409,
                    )
        except (http.HTTPError, http.InvalidURL, ValueError, OSError) as error:
            raise WorldError(f"the forge does not answer: {type(error).__name__}") from None

    async def _token(self) -> str:
        try:
            text = await anyio.to_thread.run_sync(Path(self._setting.token_file).read_text)
        except (OSError, UnicodeError) as error:
            raise WorldError(f"the forge's token_file cannot be read: {type(error).__name__}") from None
        token = text.split("\n", 1)[0].strip()
        if not token or not token.isascii() or not token.isprintable():
            raise WorldError("the first line of the forge's token_file is no token")
        return token


async def _there(client: "httpx2.AsyncClient", url: str, headers: dict[str, str]) -> bool:
    answer = await client.get(url, headers=headers)
    if answer.status_code not in {200, 404}:
        raise WorldError(f"the forge answered {answer.status_code} when it was asked what there is")
    return bool(answer.status_code == 200)


def _made(answer: "httpx2.Response", what: str, there_already: int) -> None:
    """Somebody else may have made it in the meantime."""
    if answer.status_code not in {201, there_already}:
        raise WorldError(f"the forge answered {answer.status_code} to making the {what}")


def _client() -> "httpx2.AsyncClient":
    """In a thread: the library is slow to load, and the certificates are read from disk."""
    import httpx2

    return httpx2.AsyncClient(timeout=SECONDS)
