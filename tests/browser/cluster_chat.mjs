// Chromium on the example cluster_chat: pages on two servers that share a broker talk with each other; without the broker those of
// each server go on; with it again all do, and nothing comes twice.
//
//   node tests/browser/cluster_chat.mjs CLUSTER_CHAT_BINARY redis|nats
import assert from "node:assert/strict";
import { Broker } from "../support/broker.mjs";
import { start, within } from "../support/program.mjs";
import { launch, lines, say, sees, visit } from "./chat_page.mjs";

const [binary, kind] = process.argv.slice(2);

const broker = await Broker.start(kind);
const servers = [await start(binary, "--port", "0", "--broker", broker.url), await start(binary, "--port", "0", "--broker", broker.url)];
const [here, there] = servers.map(({ ports: [port] }) => ({ port, url: `http://localhost:${port}/` }));
const browser = await launch();

const shows = (page, { port }, state, timeout = 20_000) =>
    page.locator("#place").filter({ hasText: new RegExp(`^port ${port}, ${state}$`) }).waitFor({ timeout });
const names = ["Ann", "Ben", "Cleo", "Dan"];
const people = {};
const everybody = () => Object.values(people);

async function talk(who, text, hearers) {
    await say(people[who].page, text);
    for (const hearer of hearers) await sees(people[hearer].page, text);
}

async function check(what, milliseconds, body) {
    await within(milliseconds, what, body());
    console.log(`${kind}: passed: ${what}`);
}

await check("pages on two ports are in one chat, and say to which port each is connected", 60_000, async () => {
    people.Ann = await visit(browser, here.url, "Ann");
    people.Ben = await visit(browser, there.url, "Ben");
    for (const name of ["Ann", "Ben"]) await shows(people[name].page, name === "Ann" ? here : there, "2 servers");
    people.Cleo = await visit(browser, here.url, "Cleo");
    people.Dan = await visit(browser, there.url, "Dan");
    for (const { page } of everybody())
        for (const name of names) await page.locator("#people").getByText(name).first().waitFor({ state: "attached" });
    assert.deepEqual(people.Ann.sockets, [`ws://localhost:${here.port}/my_endpoint`]);
    assert.deepEqual(people.Ben.sockets, [`ws://localhost:${there.port}/my_endpoint`]);
    await talk("Ann", "Hello, other port!", names);
    await talk("Ben", "Hello from over there.", names);
});

await check("a private message finds its way to the other port, and nobody else has it", 30_000, async () => {
    await people.Ann.page.locator("#people button", { hasText: "Ben" }).click();
    await say(people.Ann.page, "Only for Ben.");
    await people.Ben.page.locator("#privates button", { hasText: "Ann" }).click();
    await sees(people.Ben.page, "Only for Ben.");
    for (const name of ["Ann", "Ben"]) await people[name].page.locator("#rooms button", { hasText: "Lobby" }).click();
    await talk("Ann", "That was private.", names); // sent later by the same person
    for (const name of ["Cleo", "Dan"])
        assert.equal((await people[name].page.locator("body").innerHTML()).includes("Only for Ben"), false);
});

await check("without the broker those of one port go on talking", 60_000, async () => {
    await broker.kill();
    await talk("Ann", "Is somebody at my port?", ["Ann", "Cleo"]);
    await talk("Ben", "And at mine?", ["Ben", "Dan"]);
    await Promise.all(everybody().map(({ page }, i) => shows(page, i % 2 ? there : here, "cut off")));
    await talk("Cleo", "Only the two of us.", ["Ann", "Cleo"]);
    await talk("Dan", "The two of us.", ["Ben", "Dan"]);
});

await check("when it is back, all hear all again", 60_000, async () => {
    await broker.restart();
    await Promise.all(everybody().map(({ page }, i) => shows(page, i % 2 ? there : here, "2 servers")));
    await talk("Ann", "Back together?", names);
    await talk("Dan", "Yes, together.", names);
});

await check("nothing has come twice, and what was said at a port has come there", 30_000, async () => {
    const said = [
        ["Hello, other port!", 4], ["Hello from over there.", 4], ["That was private.", 4], ["Back together?", 4], ["Yes, together.", 4],
        // Said without the broker: sure to be heard at its own port, and at the other at most once.
        ["Is somebody at my port?"], ["And at mine?"], ["Only the two of us."], ["The two of us."],
    ];
    for (const [text, hearers] of said) {
        const counts = await Promise.all(everybody().map(({ page }) => lines(page, text).count()));
        assert.ok(counts.every((count) => count <= 1), `"${text}" came ${counts} times`);
        if (hearers) assert.deepEqual(counts, [1, 1, 1, 1], text);
        else assert.ok(counts.filter((count) => count === 1).length >= 2, `"${text}" came ${counts} times`);
    }
    // Who was longest without the broker may have been taken for gone by the other server, which says so, and sees them join again.
    for (const name of ["Ben", "Dan"])
        assert.equal(await lines(people.Ann.page, `${name} joined`).count() - await lines(people.Ann.page, `${name} left`).count(), 1);
    assert.equal(await people.Ann.page.locator("#people button").count(), 4);
});

await check("who leaves is seen leaving at the other port, also with a server that is killed", 60_000, async () => {
    const leaves = async (name) => {
        await people.Ann.page.locator("#people button", { hasText: name }).waitFor({ state: "detached", timeout: 40_000 });
        await sees(people.Ann.page, `${name} left`);
    };
    await people.Ben.page.context().close();
    await leaves("Ben");
    process.kill(servers[1].pid, "SIGKILL");
    await leaves("Dan");
    await shows(people.Ann.page, here, "alone");
    assert.equal(await people.Ann.page.locator("#people button").count(), 2);
});

for (const { errors } of everybody()) assert.deepEqual(errors, []);
await browser.close();
await servers[0].stop();
process.exit(0);
