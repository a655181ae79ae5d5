// Ws as the pages of 2016 know it: listeners get the raw text whatever its type, and Emit tags values as the script of
// those years did, numbers first. So true goes as 1;true and "5" as 1;5; the receiver's type decides.
import { Core } from "./core.js";

function isNumber(data) {
    if (typeof data === "bigint") return true;
    try {
        return !isNaN(data - 0) && data !== null && data !== "" && data !== false;
    } catch {
        return false; // an object that has no primitive value
    }
}

const codec = {
    encode(data) {
        if (typeof data === "symbol") {
            throw new TypeError(`Ws: ${String(data)} can't be sent, a Symbol has no text; send its description`);
        }
        if (isNumber(data)) return ["1", data.toString()];
        if (typeof data === "boolean") return ["2", data.toString()];
        if (typeof data === "string") return ["0", data];
        if (Object.prototype.toString.call(data) === "[object String]") return ["0", data.toString()];
        if (typeof data === "object") return ["4", JSON.stringify(data)];
        return ["0", ""]; // nothing, or a function
    },
    decode: (tag, text) => text,
    native: data => data,
};

export class Ws extends Core {
    constructor(endpoint, protocols, options) {
        super(codec, endpoint, protocols, options);
    }
}
