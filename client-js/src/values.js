// Values as they travel: [type, data], where type is a letter of arke.v1 and data text, or for "x" a Uint8Array or a Blob.
import { isArrayBuffer } from "./common.js";

const number = /^[+-]?[\d.]+(e[+-]?\d+)?$/i; // Number() refuses the rest that is none

export const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const isBlob = value => typeof value?.arrayBuffer === "function";

/** A view of the bytes of a buffer or of another view. */
export function bytesOf(value) {
    if (isArrayBuffer(value)) return new Uint8Array(value);
    if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

export function encode(value) {
    switch (typeof value) {
        case "string": return ["s", value];
        case "bigint": return ["n", String(value)];
        case "boolean": return ["b", String(value)];
        case "undefined": return ["v", ""];
        case "number":
            if (!Number.isFinite(value)) throw new TypeError(`Ws: ${value} can't be sent as a number; send a string, or null`);
            return [Number.isSafeInteger(value) ? "n" : "j", String(value)];
        case "object": {
            const bytes = isBlob(value) ? value : bytesOf(value);
            if (bytes) return ["x", bytes];
            const text = JSON.stringify(value);
            if (text === undefined) throw new TypeError("Ws: this object's toJSON returns nothing that JSON has; return a value");
            return ["j", text];
        }
    }
    throw new TypeError(`Ws: a ${typeof value} can't be sent; send a string, a number or an object`);
}

/** Throws where the text does not say what its type does. */
export function decode(type, data) {
    let value = data;
    if (type === "n") value = decodeNumber(data.trim());
    if (type === "b" || type === "j") value = JSON.parse(data);
    if (type === "v") return undefined;
    if (value === undefined || (type === "b" && typeof value !== "boolean")) {
        throw new TypeError(`Ws: ${data.slice(0, 50)} is no ${type === "n" ? "number" : "boolean"}`);
    }
    return value;
}

/** The number that a text says, as a BigInt where a Number would lose digits, or undefined. */
function decodeNumber(text) {
    const value = Number(text);
    if (!number.test(text) || !Number.isFinite(value)) return undefined;
    return Number.isSafeInteger(value) || /[.e]/i.test(text) ? value : BigInt(text.replace("+", ""));
}
