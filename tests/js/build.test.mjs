// The committed scripts and the C++ header are what client-js/src makes; and --check would notice.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { root } from "./support.mjs";

const build = (folder, ...args) =>
    spawnSync(process.execPath, [join(folder, "client-js/build.mjs"), ...args], { encoding: "utf8", timeout: 120_000 });

test("the committed scripts are those that client-js/src makes", () => {
    const { status, stderr } = build(fileURLToPath(root), "--check");
    assert.equal(stderr, "");
    assert.equal(status, 0);
});

/** A copy that may be spoiled, with terser or without it. */
function copied(t, { terser }) {
    const copy = mkdtempSync(join(tmpdir(), "arke-build-"));
    t.after(() => rmSync(copy, { recursive: true }));
    for (const path of ["client-js", "include/arke/http/client_script.hpp", "LICENSE"]) {
        cpSync(new URL(path, root), join(copy, path), { recursive: true, filter: from => !from.includes("node_modules") });
    }
    if (terser) symlinkSync(modules, join(copy, "client-js/node_modules"));
    return copy;
}

const modules = fileURLToPath(new URL("client-js/node_modules", root));
const noTerser = !existsSync(join(modules, "terser")) && "run npm ci --ignore-scripts in client-js";

for (const terser of [true, false]) {
    const skip = terser && noTerser;
    const way = terser ? "with terser" : "without terser";

    test(`${way} --check fails with a sentence when a script is stale or missing`, { skip }, t => {
        const copy = copied(t, { terser });
        appendFileSync(join(copy, "client-js/dist/arke.js"), "// edited by hand\n");
        rmSync(join(copy, "include"), { recursive: true });
        const { status, stderr } = build(copy, "--check");
        assert.equal(status, 1);
        assert.match(stderr, /client_script\.hpp is not what client-js\/src makes; run "node client-js\/build\.mjs"/);
        assert.match(stderr, terser ? /dist\/arke\.js is not/ : /made_from\.json is not/);
        assert.doesNotMatch(stderr, /iris-ws\.js/);
    });

    test(`${way} --check notices a source that has changed since`, { skip }, t => {
        const copy = copied(t, { terser });
        appendFileSync(join(copy, "client-js/src/ws.js"), "const somethingNew = 1;\n");
        assert.equal(build(copy, "--check").status, 1);
    });
}

test("the build mends what is stale", { skip: noTerser }, t => {
    const copy = copied(t, { terser: true });
    appendFileSync(join(copy, "client-js/dist/arke.js"), "// edited by hand\n");
    rmSync(join(copy, "include"), { recursive: true });
    assert.equal(build(copy).status, 0);
    assert.equal(build(copy, "--check").status, 0);
});

test("without terser the build says what to run", t => {
    const { status, stderr } = build(copied(t, { terser: false }));
    assert.equal(status, 1);
    assert.match(stderr, /run npm ci --ignore-scripts in client-js/);
});

test("what a page loads is less than 5 kB of gzip", () => {
    for (const file of ["arke.js", "arke.mjs", "arke.cjs", "iris-ws.js", "iris-ws.mjs", "iris-ws.cjs"]) {
        const size = gzipSync(readFileSync(new URL(`client-js/dist/${file}`, root))).length;
        assert.ok(size < 5000, `${file} has ${size} bytes`);
    }
});
