// Ws with values: a string arrives as a string, a number as a number, an object as an object.
import { Core, isArrayBuffer } from "./core.js";

const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const integer = /^[+-]?\d+$/;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function encodeNumber(data) {
    if (!Number.isFinite(data)) {
        throw new TypeError(`Ws: ${data} can't be sent as a number; send a string, or null`);
    }
    return ["1", String(data)];
}

function encodeBytes(data) {
    try {
        return ["3", utf8.decode(data)];
    } catch {
        throw new TypeError("Ws: these bytes are not UTF-8, and an event travels as text; " +
            "send them by EmitMessage, or as a string in base64");
    }
}

function encodeObject(data) {
    if (isArrayBuffer(data) || ArrayBuffer.isView(data)) return encodeBytes(data);
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("Ws: this object's toJSON returns nothing that JSON has; return a value");
    return ["4", text];
}

/** The number that a text says, as a BigInt where a Number would lose digits, or undefined. */
function decodeNumber(text) {
    text = text.trim();
    if (!number.test(text)) return undefined;
    const value = Number(text);
    if (integer.test(text) && !Number.isSafeInteger(value)) return BigInt(text.replace("+", ""));
    return Number.isFinite(value) ? value : undefined;
}

function decodeBoolean(text) {
    text = text.trim();
    return text === "true" ? true : text === "false" ? false : undefined;
}

function decodeJson(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}

const codec = {
    binaryType: "arraybuffer",
    encode(data) {
        switch (typeof data) {
            case "string": return ["0", data];
            case "number": return encodeNumber(data);
            case "bigint": return ["1", String(data)];
            case "boolean": return ["2", String(data)];
            case "undefined": return ["0", ""];
            case "object": return encodeObject(data);
            default: throw new TypeError(`Ws: a ${typeof data} can't be sent; send a string, a number or an object`);
        }
    },
    decode(tag, text) {
        switch (tag) { // what does not read as its tag says is handed over as the text it is
            case "1": return decodeNumber(text) ?? text;
            case "2": return decodeBoolean(text) ?? text;
            case "3": return new TextEncoder().encode(text);
            case "4": { // null is a value too
                const value = decodeJson(text);
                return value === undefined ? text : value;
            }
            default: return text;
        }
    },
    native: data => isArrayBuffer(data) ? new Uint8Array(data) : data,
};

export class Ws extends Core {
    constructor(endpoint, protocols, options) {
        super(codec, endpoint, protocols, options);
    }
}
