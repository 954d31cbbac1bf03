"""A real headless Chromium, driven by its DevTools protocol over one websocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

#: Seconds for what a page should show or the browser should answer.
LIMIT = 120
SCRIPTS = Path(__file__).parents[2] / "scripts"


def program() -> str:
    """The browser, which CI installs; elsewhere the tests are skipped without one."""
    found = shutil.which("chromium")
    if found is None and os.environ.get("CI") == "true":
        subprocess.run([str(SCRIPTS / "apt-install"), "chromium"], check=True)
        found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (scripts/apt-install chromium)")
    return found


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        #: What the browser has to complain of: errors of scripts, what the policy forbids.
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """As long as the browser speaks."""
        async for message in self._socket:
            told = json.loads(message.data)
            if waiting := self._waiting.pop(told.get("id"), None):
                if "error" in told:
                    waiting.set_exception(AssertionError(told["error"]["message"]))
                else:
                    waiting.set_result(told["result"])
            elif told.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["params"]["exceptionDetails"]))
            elif told.get("method") == "Log.entryAdded":
                entry = told["params"]["entry"]
                if entry["source"] != "network":  # a refusal is the page's own to tell
                    self.complaints.append(f"{entry['source']}: {entry['text']}")

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and what comes of it."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        await self._socket.send_json(command)
        return await asyncio.wait_for(answer, LIMIT)

    async def open(self) -> None:
        """A tab, to which all else goes from now on."""
        target = await self.send("Target.createTarget", url="about:blank")
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")

    async def go(self, url: str) -> None:
        await self.send("Page.navigate", url=url)

    async def does(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        told = await self.send(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def shows(self, script: str) -> Any:
        """The value of an expression, once it is one that is true.

        The page says itself when it changes, so that nothing is missed and nobody polls.
        """
        waits = f"""new Promise((resolve) => {{
            const look = () => {{
                let value;
                try {{ value = ({script}); }} catch {{ return false; }}
                if (value) {{ watcher.disconnect(); resolve(value instanceof Node || value); }}
                return Boolean(value);
            }};
            const watcher = new MutationObserver(look);
            const all = {{subtree: true, childList: true, attributes: true, characterData: true}};
            if (!look()) watcher.observe(document, all);
        }})"""
        while True:
            try:
                return await self.does(waits)
            except AssertionError as error:  # another page was loaded meanwhile
                if "navigat" not in str(error) and "destroyed" not in str(error):
                    raise

    async def presses(self, key: str, code: int = 0) -> None:
        """A key goes down and up, where the focus is."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **typed
            )

    async def types(self, text: str) -> None:
        """Where the focus is."""
        await self.send("Input.insertText", text=text)

    async def looks(self, width: int, scheme: str) -> None:
        """`scheme` is light or dark."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=900, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        await self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )


@contextlib.asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """A tab of a browser whose profile is in `folder`."""
    options = (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-port=0", "--no-first-run", f"--user-data-dir={folder}",
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        program(), *options, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    try:
        address = await asyncio.wait_for(_address(process), LIMIT)
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(address, max_msg_size=0) as socket,
        ):
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            await page.open()
            yield page
            listening.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        _, found, address = line.decode(errors="replace").partition("DevTools listening on ")
        if found:
            return address.strip()
    raise AssertionError("the browser ended")
