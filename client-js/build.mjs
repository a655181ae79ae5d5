// Makes what a server hands to browsers: one classic script for each variant, and the header that holds their bytes.
//
//   node client-js/build.mjs            writes dist/*.js and include/arke/http/client_script.hpp
//   node client-js/build.mjs --check    writes nothing; fails when what is there is not what would be written
//
// A bundler would do the same and bring some hundred packages; two modules that import one are joined by hand.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, relative } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const source = name => readFileSync(`${here}/src/${name}.js`, "utf8").replaceAll("\r\n", "\n");

/** A module without its imports and exports, because all that it names stands in the same function. */
function inlined(name) {
    return source(name).replace(/^import .*\n/gm, "").replace(/^export (?=class|function|const)/gm, "").trim();
}

function script(variant, title) {
    const body = [inlined("core"), inlined(variant)].join("\n\n");
    for (const [word] of body.matchAll(/^(import|export)\b.*/gm)) {
        throw new Error(`src/ has "${word}", which build.mjs can't take apart; write it as the lines around it are`);
    }
    return `// ${title} Made from client-js/src; BSL-1.0.\n` +
        `var Ws = (function () {\n"use strict";\n\n${body}\n\nreturn Ws;\n})();\n`;
}

/** A string as C++ literals. Short ones: compilers may refuse more than 65,536 bytes in one, and MSVC more than 16,380. */
function literal(text) {
    const end = ')arke"';
    if (text.includes(end)) throw new Error(`a script has ${end}, which ends its C++ literal; choose another delimiter`);
    if (/[^\n\x20-\x7e]/.test(text)) throw new Error("a script has a character beyond ASCII; write it as \\u....");
    const parts = [];
    let part = "";
    for (const line of text.split(/(?<=\n)/)) {
        if (part.length + line.length > 8000) {
            parts.push(part);
            part = "";
        }
        part += line;
    }
    return [...parts, part].map(p => `R"arke(${p}${end}`).join("\n");
}

function etag(text) {
    return createHash("sha256").update(text).digest("hex").slice(0, 32);
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

const iris = script("raw", "The WebSocket client of 2016: handlers get the raw text.");
const arke = script("values", "Arke's WebSocket client: handlers get values.");
const outputs = new Map([
    [`${here}/dist/iris-ws.js`, iris],
    [`${here}/dist/arke.js`, arke],
    [`${root}/include/arke/http/client_script.hpp`, header([
        { name: "iris_ws_js", text: iris, purpose: "What is served at /iris-ws.js: Ws as in 2016, handlers get the raw text." },
        { name: "arke_js", text: arke, purpose: "What is served at /arke.js: Ws whose handlers get values." },
    ])],
]);

if (process.argv.includes("--check")) {
    const stale = [...outputs].filter(([path, text]) => !existsSync(path) || readFileSync(path, "utf8") !== text);
    for (const [path] of stale) {
        console.error(`${relative(root, path)} is not what client-js/src makes; run "node client-js/build.mjs" and commit it`);
    }
    process.exitCode = stale.length > 0 ? 1 : 0;
} else {
    for (const [path, text] of outputs) {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, text);
        console.log(relative(root, path));
    }
}
