// The committed scripts and the C++ header are what client-js/src makes; and --check would notice.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { root } from "./support.mjs";

const build = (folder, ...args) =>
    spawnSync(process.execPath, [join(folder, "client-js/build.mjs"), ...args], { encoding: "utf8", timeout: 30_000 });

test("the committed scripts are those that client-js/src makes", () => {
    const { status, stderr } = build(fileURLToPath(root), "--check");
    assert.equal(stderr, "");
    assert.equal(status, 0);
});

test("--check fails with a sentence when a script is stale or missing, and the build mends it", t => {
    const copy = mkdtempSync(join(tmpdir(), "arke-build-"));
    t.after(() => rmSync(copy, { recursive: true }));
    for (const path of ["client-js", "include/arke/http/client_script.hpp"]) {
        cpSync(new URL(path, root), join(copy, path), { recursive: true });
    }

    appendFileSync(join(copy, "client-js/dist/arke.js"), "// edited by hand\n");
    rmSync(join(copy, "include"), { recursive: true });
    const { status, stderr } = build(copy, "--check");
    assert.equal(status, 1);
    assert.match(stderr, /client-js\/dist\/arke\.js is not what client-js\/src makes; run "node client-js\/build\.mjs"/);
    assert.match(stderr, /client_script\.hpp is not/);
    assert.doesNotMatch(stderr, /iris-ws\.js/);

    assert.equal(build(copy).status, 0);
    assert.equal(build(copy, "--check").status, 0);
});
