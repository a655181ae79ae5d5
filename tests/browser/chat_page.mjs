// What the tests of the chats do with its page in Chromium.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const path = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

export function launch(env = {}) {
    return chromium.launch({
        executablePath: path,
        args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"],
        env: { ...process.env, ...env },
        timeout: 30_000,
    });
}

/** A visitor with a browser of their own, connected and in the lobby. */
export async function visit(browser, url, name) {
    const page = await (await browser.newContext()).newPage();
    page.setDefaultTimeout(20_000);
    const sockets = [];
    const errors = [];
    page.on("websocket", (socket) => sockets.push(socket.url()));
    page.on("pageerror", (error) => errors.push(error.message));
    await page.goto(url);
    await page.getByLabel("Your name").fill(name);
    await page.getByRole("button", { name: "Join the chat" }).click();
    await page.locator("#status").filter({ hasText: /^Connected$/ }).waitFor({ state: "attached" });
    // Who is in the lobby sees the others join it.
    await page.locator("#people").getByText(`${name} (you)`, { exact: true }).waitFor({ state: "attached" });
    return { page, sockets, errors };
}

/** The lines of the conversation that is shown with exactly this text. */
export const lines = (page, text) => page.locator(".log:visible").getByText(text, { exact: true });

export const sees = (page, text) => lines(page, text).first().waitFor();

export async function say(page, text) {
    await page.getByLabel("Message", { exact: true }).fill(text);
    await page.keyboard.press("Enter");
}
