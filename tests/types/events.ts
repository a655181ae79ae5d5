// What tsc --strict accepts of the client's types, and, under "@ts-expect-error", what it must refuse. Run by package.mjs
// against the packed package. Values are only looked at as types.
import { Refusal, Ws, WsError, type WsOptions } from "arke-client";
import { Ws as RawWs } from "arke-client/raw";

interface Order { item: string; count: number }

interface FromServer {
    chat: string;
    tick: void;
    picture: Uint8Array;
    confirm: (order: Order) => boolean;
    time: () => number;
}

interface ToServer {
    chat: string;
    hello: undefined;
    maybe: number | undefined;
    buy: (order: Order) => number;
    list: () => Order[];
}

/** Fails where the two are not the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false;
function same<A, B>(_: Same<A, B>): void {}

const ws = new Ws<FromServer, ToServer>("/my_endpoint", { reconnect: (code, reason, attempt) => code !== 4000 && attempt < 5, idle: 1 });

export async function typed(order: Order): Promise<void> {
    ws.On("chat", message => same<typeof message, string>(true));
    ws.on("tick", value => same<typeof value, void>(true));
    ws.Once("picture", bytes => same<typeof bytes, Uint8Array>(true));
    ws.On("confirm", order => order.count < 5);
    ws.On("confirm", async order => order.count < 5 || ws.refuse("too many"));
    ws.On("confirm", () => new Refusal("never"));
    ws.On("time", () => Date.now());
    ws.OnAny((event, value) => same<typeof event, keyof FromServer>(true));
    const off = ws.On("chat", () => {});
    off();
    ws.Off("chat");

    same<ReturnType<typeof ws.Emit>, boolean>(true);
    ws.Emit("chat", "hello");
    ws.Emit("chat", "hello", { ttl: 5000, volatile: true });
    ws.emit("hello");
    ws.emit("hello", undefined, { ttl: 1 });
    ws.emit("maybe");
    ws.emit("maybe", 5);
    ws.EmitMessage(new Uint8Array(5));

    const price = await ws.Ask("buy", order);
    same<typeof price, number>(true);
    const all = await ws.ask("list");
    same<typeof all, Order[]>(true);
    await ws.ask("list", undefined, { timeout: Infinity });
    same<Awaited<ReturnType<typeof ws.Join>>, void>(true);

    // @ts-expect-error: there is no such event
    ws.On("chatt", () => {});
    // @ts-expect-error: it is the client that asks this one
    ws.On("buy", () => 5);
    // @ts-expect-error: a message is a string
    ws.On("chat", (message: number) => {});
    // @ts-expect-error: the answer is a boolean
    ws.On("confirm", () => "yes");
    // @ts-expect-error: nor is a promise of a string one
    ws.On("confirm", async () => "yes");
    // @ts-expect-error: the data is missing
    ws.Emit("chat");
    // @ts-expect-error: the data is a string
    ws.Emit("chat", 5);
    // @ts-expect-error: there is no data
    ws.Emit("hello", "Ann");
    // @ts-expect-error: there is no such option
    ws.Emit("chat", "hello", { tll: 5 });
    // @ts-expect-error: an order has a count
    ws.Ask("buy", { item: "tea" });
    // @ts-expect-error: there is no such request
    ws.Ask("sell", order);
    // @ts-expect-error: the server hears no "tick"
    ws.emit("tick");
    // @ts-expect-error: what the WebSocket is, the client decides
    ws.conn = null;
}

export function untyped(): void {
    const any = new Ws("ws://example.com/chat", ["token.abc"], { query: async () => ({ token: "abc" }) });
    any.On("whatever", value => { value.anything.goes(); });
    any.Emit("whatever");
    any.Emit("whatever", { at: "all" });
    any.Ask("whatever", 5n).then(answer => answer.anything, (error: unknown) => {
        if (error instanceof WsError) same<typeof error.code extends string ? true : false, true>(true);
        if (error instanceof Ws.Error && error.code === "timeout") return error.event;
    });
    any.OnDisconnect((code, reason, willReconnect) => same<typeof willReconnect, boolean>(true));
    new Ws(async () => "wss://example.com/chat", { protocols: () => ["token.abc"] });
    new Ws("/chat", null, {});
    class Chat extends Ws<FromServer, ToServer> {
        say(text: string): boolean {
            return this.Emit("chat", text);
        }
    }
    new Chat("/chat").say("hello");
    new RawWs("/chat").On("chat", text => same<typeof text, string>(true));
    const options: WsOptions = { minDelay: 5 };
    // @ts-expect-error: delays are numbers
    options.maxDelay = "5 s";
    // @ts-expect-error: an endpoint is needed
    new Ws();
}
