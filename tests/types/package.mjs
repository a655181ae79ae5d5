// The package as npm packs it, in an empty project: by import, require and script tag, and by tsc --strict.
//
//   node tests/types/package.mjs
//
// First: npm ci --ignore-scripts, in this folder. Needs npm, and no network.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { gzipSync } from "node:zlib";

const here = fileURLToPath(new URL(".", import.meta.url));
const client = fileURLToPath(new URL("../../client-js", import.meta.url));
const tsc = join(here, "node_modules/typescript/bin/tsc");
const project = mkdtempSync(join(tmpdir(), "arke-package-"));
const run = (program, ...args) => execFileSync(program, args, { cwd: project, encoding: "utf8", timeout: 120_000 });
const write = (file, text) => writeFileSync(join(project, file), text);

/** A WebSocket that lets a script see what a Ws does with it. */
const fake = `class Fake {
    constructor(...args) { Fake.last = this; this.args = args; this.readyState = 0; this.sent = []; }
    send(data) { this.sent.push(data); }
    close() { this.readyState = 3; }
}`;
const use = `${fake}
const ws = new Ws("ws://x", { WebSocket: Fake });
Fake.last.readyState = 1;
Fake.last.protocol = "arke.v1";
Fake.last.onopen();
ws.Emit("chat", "hello");
Fake.last.onclose({ code: 1000, reason: "" });
console.log(JSON.stringify([Fake.last.args, Fake.last.sent, ws.state, ws.refuse("no") instanceof Ws.Refusal]));`;
const expected = '[["ws://x",["arke.v1"]],["eschat\\nhello"],"closed",true]';

function check(what, body) {
    try {
        body();
        console.log(`ok: ${what}`);
    } catch (error) {
        console.error(`failed: ${what}\n${error.stdout ?? ""}${error.stderr ?? ""}`);
        throw error;
    }
}

try {
    const [packed] = JSON.parse(run("npm", "pack", "--json", "--pack-destination", project, client));
    const installed = join(project, "node_modules/arke-client");

    check("the tarball has what belongs into it, and nothing else", () => {
        assert.equal(packed.name, "arke-client");
        assert.deepEqual(packed.files.map(file => file.path).sort(), [
            "LICENSE", "README.md", "dist/arke.cjs", "dist/arke.js", "dist/arke.mjs", "dist/iris-ws.cjs", "dist/iris-ws.js", "dist/iris-ws.mjs",
            "index.d.cts", "index.d.ts", "package.json", "raw.d.cts", "raw.d.ts",
        ]);
    });

    check("npm installs it into an empty project, and nothing with it", () => {
        write("package.json", '{ "name": "empty", "private": true }');
        run("npm", "install", "--offline", "--no-audit", "--no-fund", join(project, packed.filename));
        const lock = JSON.parse(readFileSync(join(project, "package-lock.json"), "utf8"));
        assert.deepEqual(Object.keys(lock.packages), ["", "node_modules/arke-client"]);
    });

    check("import", () => {
        write("use.mjs", `import { Refusal, Ws, WsError } from "arke-client";\n${use}\nif (!Refusal || !WsError) throw 0;`);
        assert.equal(run(process.execPath, "use.mjs").trim(), expected);
        write("raw.mjs", 'import { Ws } from "arke-client/raw"; console.log(typeof Ws.prototype.Emit, Ws.prototype.Ask);');
        assert.equal(run(process.execPath, "raw.mjs").trim(), "function undefined");
    });

    check("require", () => {
        write("use.cjs", `const { Refusal, Ws, WsError } = require("arke-client");\n${use}\nif (!Refusal || !WsError) throw 0;`);
        assert.equal(run(process.execPath, "use.cjs").trim(), expected);
        write("raw.cjs", 'const { Ws } = require("arke-client/raw"); console.log(typeof Ws.prototype.Emit, Ws.prototype.Ask);');
        assert.equal(run(process.execPath, "raw.cjs").trim(), "function undefined");
    });

    check("script tag", () => {
        const said = [];
        const console = { log: text => said.push(text) };
        const page = vm.createContext({ TextDecoder, TextEncoder, setTimeout, clearTimeout, console });
        vm.runInContext(readFileSync(join(installed, "dist/arke.js"), "utf8"), page);
        vm.runInContext(use, page);
        assert.deepEqual(said, [expected]);
        const globals = Object.keys(page).filter(name => !/^(Text|set|clear|console)/.test(name));
        assert.deepEqual(globals, ["Ws"]);
    });

    check("each file that a page may load is less than 5 kB of gzip", () => {
        for (const file of ["arke.js", "arke.mjs"]) {
            const { length } = gzipSync(readFileSync(join(installed, "dist", file)));
            assert.ok(length < 5000, `${file} has ${length} bytes`);
            console.log(`    ${file}: ${length} bytes`);
        }
    });

    copyFileSync(join(here, "events.ts"), join(project, "events.ts"));
    mkdirSync(join(project, "common"));
    write("common/package.json", '{ "type": "commonjs" }');
    write("common/use.ts", 'import { Ws } from "arke-client";\nimport Raw = require("arke-client/raw");\n' +
        'export const ws = new Ws<{ chat: string }>("/x");\nnew Raw.Ws("/x").Emit("chat", 5);\n');
    const strict = ["--strict", "--noEmit", "--pretty", "false", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"];
    for (const [what, ...options] of [
        ["a bundler's way", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"],
        ["Node's way", "--module", "nodenext", "--target", "es2022"],
        ["without the types of a browser", "--module", "nodenext", "--target", "es2022", "--lib", "es2022"],
    ]) {
        check(`tsc --strict, ${what}`, () => run(process.execPath, tsc, ...strict, ...options, "events.ts"));
    }
    check("tsc --strict, in CommonJS", () => run(process.execPath, tsc, ...strict, "--module", "nodenext", "common/use.ts"));
} catch (error) {
    if (!error.status) console.error(error);
    process.exitCode = 1;
} finally {
    rmSync(project, { recursive: true, force: true });
}
