// Chromium on the chat example: what its visitors see of each other.
//
//   node tests/browser/chat.mjs CHAT_BINARY [--screenshots DIR]
//
// First: npm ci --ignore-scripts, in this folder. CHROMIUM names another browser than /usr/bin/chromium.
// Nothing waits for a time to pass: that somebody did not get a message is proved by a later one that arrived.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: { screenshots }, positionals: [binary] } =
    parseArgs({ options: { screenshots: { type: "string" } }, allowPositionals: true });
if (!binary) {
    console.error("usage: node tests/browser/chat.mjs CHAT_BINARY [--screenshots DIR]");
    process.exit(2);
}

const patience = 20_000; // ms for one thing to appear
const limit = 280_000; // ms for all of it
const phone = { width: 390, height: 844 };
const desktop = { width: 1280, height: 800 };
const path = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);

let server;
let browser;
const errors = []; // what pages throw

async function start() {
    server = spawn(binary, ["0"], { stdio: ["ignore", "pipe", "inherit"] });
    return new Promise((resolve, reject) => {
        server.once("error", reject);
        server.once("exit", code => reject(new Error(`${binary} ended with ${code} before it printed its address`)));
        createInterface({ input: server.stdout }).once("line", resolve);
    });
}

async function stop() {
    await browser?.close();
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise(resolve => server.once("exit", resolve));
    server.kill("SIGTERM");
    const impatience = setTimeout(() => server.kill("SIGKILL"), 8_000);
    await ended;
    clearTimeout(impatience);
}

/** A page in a context of its own, as another person's browser would be. */
async function open(url, options = {}) {
    const context = await browser.newContext({ viewport: desktop, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(patience);
    page.on("pageerror", error => errors.push(`${url}: ${error.message}`));
    await page.goto(url);
    return page;
}

async function visit(url, name, options) {
    const page = await open(url, options);
    await page.getByLabel("Your name").fill(name);
    await page.getByRole("button", { name: "Join the chat" }).click();
    await status(page, /^Connected$/).waitFor({ state: "attached" }); // on a phone it is behind a button
    return page;
}

async function say(page, text) {
    await page.getByLabel("Message", { exact: true }).fill(text);
    await page.keyboard.press("Enter");
}

const status = (page, text) => page.locator("#status").filter({ hasText: text });

// The log that is shown, and the lists beside it.
const shown = page => page.locator(".log:visible");
const sees = (page, text) => shown(page).getByText(text, { exact: true }).first().waitFor();
const room = (page, name) => page.locator("#rooms button", { has: page.getByText(name, { exact: true }) });
const person = (page, name) => page.locator("#people button", { has: page.getByText(name, { exact: true }) });
const conversation = (page, name) => page.locator("#privates button", { has: page.getByText(name, { exact: true }) });
const unread = (button, count) => button.getByLabel(`${count} unread`).waitFor();
const picture = (page, name) => screenshots && page.screenshot({ path: `${screenshots}/${name}.png` });

async function check(what, body) {
    try {
        await body();
        console.log(`ok: ${what}`);
    } catch (error) {
        console.error(`failed: ${what}`);
        throw error;
    }
}

async function run() {
    const url = await start();
    browser = await chromium.launch({
        executablePath: path,
        args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"],
        timeout: 30_000,
    });
    const door = await open(url);
    await picture(door, "desktop-door");
    await door.context().close();

    const ann = await visit(url, "Ann Lindqvist");
    const ben = await visit(url, "Ben");
    const cleo = await visit(url, "Cleo", { viewport: phone, colorScheme: "dark", hasTouch: true });

    await check("everybody is listed by name, and seen joining", async () => {
        await sees(ann, "Ben joined");
        await sees(ann, "Cleo joined");
        await person(ann, "Ann Lindqvist (you)").waitFor();
        for (const name of ["Ann Lindqvist", "Ben"]) await person(cleo, name).waitFor({ state: "attached" });
    });

    await check("a message that all see, right where it is one's own", async () => {
        await say(ann, "Hello! Who is up for a walk along the harbour?");
        for (const page of [ann, ben, cleo]) await sees(page, "Hello! Who is up for a walk along the harbour?");
        assert.equal(await ann.locator(".message.own").count(), 1);
        assert.equal(await ben.locator(".message.own").count(), 0);
        const [own, whole] = await Promise.all([ann.locator(".message.own .bubble").boundingBox(), shown(ann).boundingBox()]);
        assert.ok(own.x > whole.x + whole.width / 3, "Ann's own message stands at the right");
    });

    await check("what looks like markup is text", async () => {
        const markup = "<img src=x onerror=alert(1)> & \"so; on\" \u00e9\u4e16\u{1f680}";
        await say(ben, markup);
        for (const page of [ann, ben, cleo]) await sees(page, markup);
        assert.equal(await ann.locator(".log img").count(), 0);
    });

    await check("a private message that the third does not get", async () => {
        await person(ann, "Ben").click();
        await say(ann, "Between us: it is Cleo's birthday.");
        await sees(ann, "Between us: it is Cleo's birthday.");
        await unread(conversation(ben, "Ann Lindqvist"), 1);
        await conversation(ben, "Ann Lindqvist").click();
        await sees(ben, "Between us: it is Cleo's birthday.");
        await say(ben, "I'll bring a cake.");
        await sees(ann, "I'll bring a cake.");

        await room(ben, "Lobby").click();
        await say(ben, "Yes, at six by the lighthouse.");
        await sees(cleo, "Yes, at six by the lighthouse."); // it was sent after the private one, by the same person
        assert.equal((await cleo.locator("body").innerHTML()).includes("birthday"), false, "Cleo got what was not for her");
        assert.equal((await cleo.locator("#privates button").count()), 0);
    });

    await check("a room of its own, and badges for what is not looked at", async () => {
        await unread(room(ann, "Lobby"), 1);
        await ann.getByLabel("Name of a room to create or enter").fill("Boats");
        await ann.keyboard.press("Enter");
        await ann.getByRole("heading", { name: "Boats" }).waitFor();
        await room(ben, "Boats").click();
        await sees(ann, "Ben joined");
        await say(ben, "The blue one leaves at five.");
        await sees(ann, "The blue one leaves at five.");
        await room(ann, "Lobby").click();
        await sees(ann, "Yes, at six by the lighthouse.");
        assert.equal(await room(ann, "Lobby").locator(".badge").count(), 0);

        await say(ben, "Or the red one at six.");
        await say(ben, "Tell me which.");
        await unread(room(ann, "Boats"), 2);
        await say(ann, "I am back here.");
        await sees(cleo, "I am back here.");
        assert.equal((await cleo.locator("body").innerHTML()).includes("red one"), false, "Cleo is not in Boats");
        await picture(ann, "desktop-rooms");
    });

    await check("a room is left", async () => {
        await room(ann, "Boats").click();
        await sees(ann, "Tell me which.");
        await ann.getByRole("button", { name: "Leave", exact: true }).click();
        await ann.getByRole("heading", { name: "Lobby" }).waitFor();
        await sees(ben, "Ann Lindqvist left");
    });

    await check("the page of 2016 hears the lobby and is heard there", async () => {
        const classic = await open(new URL("classic.html", url).href);
        const heard = text => classic.locator("#messages").getByText(text).waitFor();
        await heard("Connected");
        await say(ann, "Anyone on an old page?");
        await heard("Ann Lindqvist: Anyone on an old page?");
        await classic.getByLabel("Message").fill("5");
        await classic.getByRole("button", { name: "Send" }).click();
        await heard(/^Guest .*: 5$/);
        await sees(ann, "5");
        await sees(cleo, "5");
        await classic.getByLabel("Message").fill("Me; since 2016.");
        await classic.keyboard.press("Enter");
        await sees(ann, "Me; since 2016.");
        await heard(/^Guest .*: Me; since 2016\.$/);
        await classic.context().close();
        await sees(ann, /^Guest .* left$/);
    });

    await check("on a phone the lists are behind a button", async () => {
        await say(cleo, "See you there!");
        await sees(ann, "See you there!");
        await picture(cleo, "phone-dark");
        assert.equal(await person(cleo, "Ben").isVisible(), false);
        await cleo.getByRole("button", { name: "Rooms and people" }).click();
        await person(cleo, "Ben").waitFor();
        await cleo.locator("#side").evaluate(side => Promise.all(side.getAnimations().map(a => a.finished)));
        await picture(cleo, "phone-dark-lists");
        await cleo.keyboard.press("Escape");
        await person(cleo, "Ben").waitFor({ state: "hidden" });
        const { scroll, width } = await cleo.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
        assert.ok(scroll <= width, "nothing is wider than the phone");
        await cleo.emulateMedia({ colorScheme: "light" });
        await picture(cleo, "phone");
    });

    await check("a page that closes is seen leaving", async () => {
        await room(ben, "Lobby").click();
        await picture(ann, "desktop");
        await ann.emulateMedia({ colorScheme: "dark" });
        await picture(ann, "desktop-dark");
        await ben.context().close();
        await sees(ann, "Ben left");
        await sees(cleo, "Ben left");
        await person(ann, "Ben").waitFor({ state: "detached" });
        await conversation(ann, "Ben").click();
        assert.equal(await ann.getByLabel("Message", { exact: true }).isDisabled(), true);
    });

    await check("a server that ends is seen too", async () => {
        server.kill("SIGTERM");
        await status(ann, /^(Not connected|Connecting)$/).waitFor();
        await ann.getByText("The connection is lost. Trying again.").waitFor();
    });

    assert.deepEqual(errors, []);
}

const alarm = setTimeout(() => {
    console.error(`not done after ${limit / 1000} s`);
    server?.kill("SIGKILL");
    browser?.close().finally(() => process.exit(1));
    setTimeout(() => process.exit(1), 3_000);
}, limit);

try {
    if (!path) throw new Error("there is no Chromium: on Debian, apt-get install chromium; or set CHROMIUM to its path");
    if (screenshots) mkdirSync(screenshots, { recursive: true });
    await run();
} catch (error) {
    console.error(error);
    process.exitCode = 1;
} finally {
    await stop();
    clearTimeout(alarm);
}
