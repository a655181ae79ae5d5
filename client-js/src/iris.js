// The protocol of 2016, for servers that know no arke.v1: events without answers. raw.js has its grammar. Messages here are
// those of arke_v1.js.
import { checkIrisName, parseIris } from "./common.js";
import { decode, strictUtf8 } from "./values.js";

const types = "snbxj"; // by their tags

/** What does not read as its tag says is handed over as the text it is. */
export function readIris(frame, prefix) {
    const event = typeof frame === "string" && parseIris(frame, prefix);
    if (!event) return { kind: "m", value: typeof frame === "string" ? frame : new Uint8Array(frame) };
    const { name, tag, text } = event;
    let value = text;
    try {
        value = tag === "3" ? new TextEncoder().encode(text) : decode(types[tag], text);
    } catch {}
    return { kind: "e", name, value };
}

export function writeIris({ kind, type, name, data }, prefix) {
    if (kind === "m") return data;
    checkIrisName(name);
    if (type === "x") {
        try {
            data = strictUtf8.decode(data); // a Blob is no bytes for it either
        } catch {
            throw new TypeError("Ws: these bytes are not UTF-8, and the server's events are text; send them by EmitMessage");
        }
    }
    const tag = type === "v" ? 0 : type === "j" && /^[-\d]/.test(data) ? 1 : types.indexOf(type);
    return prefix + name + ";" + tag + ";" + data;
}
