// The protocol arke.v1. Its grammar stands in include/arke/event/arke_v1.hpp. A message here is
// { kind, type, id, name, data }, of which each kind has some; a room is the data of "j" and "l".
import { decode, isBlob, strictUtf8 } from "./values.js";

// What stands before the data: of each kind the same three parts, of which it has some.
const heads = new Map([..."erafjlpqm"].map(kind => [kind, new RegExp("^." +
    ("era".includes(kind) ? "([snbxjv])" : "()") +
    ("rafjl".includes(kind) ? "(0|[1-9]\\d{0,9}) " : "()") +
    ("erf".includes(kind) ? "([^\\n]+)\\n" : "()"))]));

/** The message; its value decoded, or `error` where the data is not what its type says. Null for an unknown kind. */
export function readV1(frame) {
    const bytes = typeof frame === "string" ? null : new Uint8Array(frame);
    const kind = bytes ? String.fromCharCode(bytes[0]) : frame[0];
    const grammar = heads.get(kind);
    if (!grammar) return null;

    // The head of a binary message ends with the first line feed; of an answer with a space, and of a native one at once.
    const end = bytes && (kind === "m" ? 0 : bytes.indexOf(kind === "a" ? 32 : 10)) + 1;
    const head = bytes ? strictUtf8.decode(bytes.subarray(0, end)) : frame;
    const [whole, type, id, escaped] = grammar.exec(head) ?? broken(frame);
    const data = bytes ? bytes.slice(end) : frame.slice(whole.length);
    if (kind !== "m" && (type === "x") !== Boolean(bytes)) broken(frame);
    if (id > 0xffffffff || (type === "v" && data)) broken(frame);

    const name = escaped.replace(/\\(.?)/g, (_, letter) =>
        letter === "n" ? "\n" : letter === "\\" ? letter : broken(frame));
    const message = { kind, type, id: Number(id), name, data };
    try {
        message.value = decode(type, data);
    } catch (error) {
        message.error = error;
    }
    return message;
}

function broken(frame) {
    throw new SyntaxError("Ws: the server sent what is no message of arke.v1: " + String(frame).slice(0, 50));
}

/** What to send for a message: text, bytes, or a Blob. */
export function writeV1({ kind, type = "", id, name, data }) {
    const head = kind + type + (id === undefined ? "" : id + " ") +
        (name === undefined ? "" : name.replace(/[\\\n]/g, c => c === "\n" ? "\\n" : "\\\\") + "\n");
    if (typeof data === "string") return head + data;
    if (isBlob(data)) return new Blob([head, data]);
    const start = new TextEncoder().encode(head);
    const frame = new Uint8Array(start.length + data.length);
    frame.set(start);
    frame.set(data, start.length);
    return frame;
}
