// Chromium on the example tls_chat: the chat over wss, by a certificate that the browser comes to trust.
//
//   node tests/browser/tls_chat.mjs TLS_CHAT_BINARY
//
// The certificate is the one that the example's script makes. certutil (Debian's libnss3-tools) puts it among the authorities
// of a home of the browser's own.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { start, within } from "../support/program.mjs";
import { launch, say, sees, visit } from "./chat_page.mjs";

const [binary] = process.argv.slice(2);
const script = fileURLToPath(new URL("../../examples/tls_chat/certificate", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "arke-tls-chat-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 10 })); // a browser's last process may still write there
const at = (name) => join(folder, name);

execFileSync(script, [folder]);
const server = await start(binary, "0", at("certificate.pem"), at("key.pem"));
const url = `https://localhost:${server.ports[0]}/`;

// A browser that does not know it.
mkdirSync(at("stranger"));
let browser = await launch({ HOME: at("stranger") });
await within(30_000, "the warning", assert.rejects((await browser.newPage()).goto(url), /ERR_CERT_AUTHORITY_INVALID/));
await browser.close();
console.log("passed: a certificate that the browser does not know is warned of");

const trust = at("home/.pki/nssdb");
mkdirSync(trust, { recursive: true });
execFileSync("certutil", ["-N", "--empty-password", "-d", `sql:${trust}`]);
execFileSync("certutil", ["-A", "-d", `sql:${trust}`, "-t", "C,,", "-n", "arke", "-i", at("certificate.pem")]);
browser = await launch({ HOME: at("home") });
await within(60_000, "the chat", (async () => {
    const ann = await visit(browser, url, "Ann");
    const ben = await visit(browser, url, "Ben");
    await sees(ann.page, "Ben joined");
    await say(ann.page, "Nobody on the way reads this.");
    await sees(ben.page, "Nobody on the way reads this.");
    await say(ben.page, "Not even é\u{1f510}.");
    await sees(ann.page, "Not even é\u{1f510}.");
    assert.deepEqual(ann.sockets, [url.replace("https:", "wss:") + "my_endpoint"]);
    assert.equal(await ann.page.evaluate(() => isSecureContext), true);

    // Renewed under way.
    rmSync(at("certificate.pem"));
    execFileSync(script, [folder]);
    await server.signal("SIGHUP", "certificates read again");
    await say(ann.page, "Still here?");
    await sees(ben.page, "Still here?");
})());
await browser.close();
await server.stop();
console.log("passed: the chat over wss, through a renewal of the certificate");
process.exit(0);
