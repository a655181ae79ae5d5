// Makes what servers hand to browsers and what npm packs: of each client a classic script, an ES module and a CommonJS
// module, each one file; and the C++ header that holds the scripts.
//
//   node client-js/build.mjs            writes dist/, index.d.cts, raw.d.cts, LICENSE, include/arke/http/client_script.hpp
//   node client-js/build.mjs --check    writes nothing; fails when what is there is not what would be written
//
// terser makes it fit into 5 kB: without comments and spaces alone it is a quarter more. It shortens the names of local
// variables only; what a debugger shows of a Ws is what src/ calls it. First: npm ci --ignore-scripts, in this folder.
// Without that, --check goes by dist/made_from.json: the hashes of what dist/ was made from and of what was made.
//
// A bundler would bring some hundred packages more; modules that name nothing twice are joined by hand.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const read = path => readFileSync(path, "utf8").replaceAll("\r\n", "\n");
const sha256 = text => createHash("sha256").update(text).digest("hex");

const clients = [
    {
        file: "iris-ws", modules: ["common", "raw"], statics: {},
        title: "The WebSocket client of 2016, from client-js/src of Arke; BSL-1.0.",
    },
    {
        file: "arke", modules: ["common", "values", "arke_v1", "iris", "ws"], statics: { Refusal: "Refusal", WsError: "Error" },
        title: "The client of Arke; BSL-1.0.",
    },
];

/** Modules without their imports and exports, because all that they name will stand in the same function. */
function joined(modules) {
    const body = modules.map(name => read(`${here}/src/${name}.js`)
        .replace(/^import .*;$/gm, "").replace(/^export (?=class|function|async function|const)/gm, "")).join("\n");
    for (const [line] of body.matchAll(/^(import|export)\b.*/gm)) {
        throw new Error(`src/ has "${line}", which build.mjs can't take apart; write it as the lines around it are`);
    }
    return body;
}

/** dist/ as [file, text]. A client is one expression, whatever form it comes in. */
async function compiled({ minify }) {
    const files = [];
    for (const { file, modules, title, statics } of clients) {
        const { code } = await minify(`(function () {\n"use strict";\n${joined(modules)}\nreturn Ws;\n})()`, {
            ecma: 2022,
            // The rest of what it knows makes more bytes of gzip, not fewer.
            compress: { expression: true, passes: 2, inline: 0, reduce_funcs: false, reduce_vars: false, sequences: false, conditionals: false },
        });
        const head = `// ${title}\n`;
        const ws = code.replace(/;$/, "");
        const pairs = Object.entries(statics);
        const named = pairs.length > 0 ? `export const{${pairs.map(([name, own]) => `${own}:${name}`)}}=Ws;\n` : "";
        const properties = pairs.map(([name, own]) => `,${name}:Ws.${own}`).join("");
        files.push([`${file}.js`, `${head}var Ws=${ws};\n`], [`${file}.mjs`, `${head}export const Ws=${ws};\n${named}`],
            [`${file}.cjs`, `${head}const Ws=${ws};\nmodule.exports={Ws${properties}};\n`]);
    }
    return files;
}

/** A string as C++ literals. Short ones: compilers may refuse more than 65,536 bytes in all, and MSVC more than 16,380 in one. */
function literal(text) {
    const end = ')arke"';
    if (text.includes(end)) throw new Error(`a script has ${end}, which ends its C++ literal; choose another delimiter`);
    if (/[^\n\x20-\x7e]/.test(text)) throw new Error("a script has a character beyond ASCII; write it as \\u....");
    const parts = [];
    let part = "";
    for (const line of text.split(/(?<=[\n;])/)) {
        if (part.length + line.length > 8000) {
            parts.push(part);
            part = "";
        }
        part += line;
    }
    return [...parts, part].map(p => `R"arke(${p}${end}`).join("\n");
}

function etag(text) {
    return sha256(text).slice(0, 32);
}

function header(scripts) {
    const constants = scripts.map(({ name, text, purpose }) => `
/// ${purpose}
inline constexpr std::string_view ${name} =
${literal(text)};

/// Its ETag, quotation marks included: a hash of its bytes.
inline constexpr std::string_view ${name}_etag = "\\"${etag(text)}\\"";
`);
    return `#pragma once

// Made by client-js/build.mjs from client-js/src, and committed so that users of Arke need no Node. Change it there.

#include <string_view>

namespace arke::http {

// clang-format off
${constants.join("").trimStart()}
// clang-format on

}  // namespace arke::http
`;
}

const inputs = [`${here}/build.mjs`, `${here}/package-lock.json`,
    ...new Set(clients.flatMap(({ modules }) => modules.map(name => `${here}/src/${name}.js`)))];
const madeFrom = sha256(inputs.map(path => sha256(read(path))).join("\n"));
const manifest = `${here}/dist/made_from.json`;

/** All that is made, as a Map of path to text. */
function outputs(files) {
    const script = name => files.find(([file]) => file === name)[1];
    const hashes = Object.fromEntries(files.map(([file, text]) => [file, sha256(text)]));
    return new Map([
        ...files.map(([file, text]) => [`${here}/dist/${file}`, text]),
        [manifest, `${JSON.stringify({ sources: madeFrom, ...hashes }, null, 2)}\n`],
        // What "require" finds has to be typed by files of its own, which say the same.
        [`${here}/index.d.cts`, read(`${here}/index.d.ts`)],
        [`${here}/raw.d.cts`, read(`${here}/raw.d.ts`)],
        [`${here}/LICENSE`, read(`${root}/LICENSE`)],
        [`${root}/include/arke/http/client_script.hpp`, header([
            {
                name: "iris_ws_js", text: script("iris-ws.js"),
                purpose: "What is served at /iris-ws.js: Ws as in 2016, handlers get the raw text.",
            },
            { name: "arke_js", text: script("arke.js"), purpose: "What is served at /arke.js: Ws of arke.v1, handlers get values." },
        ])],
    ]);
}

const terser = await import("terser").catch(() => null);
const check = process.argv.includes("--check");
if (!terser && !check) throw new Error("terser is missing: run npm ci --ignore-scripts in client-js");

// Without terser, what is in dist/ counts as made if it came from these sources and nobody has changed it since.
const present = () => Object.keys(JSON.parse(read(manifest))).slice(1)
    .map(file => [file, existsSync(`${here}/dist/${file}`) ? read(`${here}/dist/${file}`) : ""]);
const wanted = outputs(terser ? await compiled(terser) : present());

if (check) {
    const stale = [...wanted].filter(([path, text]) => !existsSync(path) || read(path) !== text);
    for (const [path] of stale) {
        console.error(`${relative(root, path)} is not what client-js/src makes; run "node client-js/build.mjs" and commit it`);
    }
    process.exitCode = stale.length > 0 ? 1 : 0;
} else {
    for (const [path, text] of wanted) {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, text);
        console.log(relative(root, path));
    }
}
