// Ports for servers that must be told theirs: because they are killed and come back, or know no port 0.
import { randomInt } from "node:crypto";
import { createServer } from "node:net";

const isFree = (port) => new Promise((resolve) => {
    const probe = createServer();
    probe.on("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
});

/**
 * A port of 127.0.0.1 at which nobody listens. It is below those that the kernel hands out: nobody is given it before the server has
 * it, or while the server is away, and no client that tries again and again gets it as its own and is connected to itself.
 */
export async function freePort() {
    for (let attempt = 0; attempt !== 20; ++attempt) {
        const port = randomInt(20_000, 32_000);
        if (await isFree(port)) return port;
    }
    throw new Error("of twenty ports between 20000 and 32000 none is free");
}
