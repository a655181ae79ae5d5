// Lists what may be sent and received, by name: the value of an event, or for a request a function of the value to its answer.
//
//     interface FromServer { chat: string; tick: void; confirm: (order: Order) => boolean }
//     interface ToServer   { chat: string; buy: (order: Order) => number }
//     const ws = new Ws<FromServer, ToServer>("/my_endpoint");
//
// Nothing here needs the types of a browser or of Node.

type AnyEvents = Record<string, any>;
type Name<Events> = keyof Events & string;
type Value<T> = T extends (...values: infer V) => unknown ? (V extends [] ? undefined : V[0]) : T;
type IsAny<T> = 0 extends 1 & T ? true : false;
type Answer<T> = IsAny<T> extends true ? any : T extends (...values: any[]) => infer A ? Awaited<A> : unknown;
type Answering<T> = T extends (...values: any[]) => infer A ? Awaited<A> | Refusal | Promise<Awaited<A> | Refusal> : unknown;
type Sent<T, Options> = undefined extends Value<T>
    ? [data?: Value<T>, options?: Options]
    : [data: Value<T>, options?: Options];
type Listener<T> = (value: Value<T>) => Answering<T>;
type Made<T> = T | (() => T | Promise<T>);

/** Takes the listener back. */
export type Off = () => void;

export type WsState = "connecting" | "open" | "waiting" | "closing" | "closed";

export type WsErrorCode =
    /** What the server says. */
    | "refused" | "unhandled" | "wrong-type" | "failed" | "busy"
    /** What happened here; "busy" too, where the queue is full. */
    | "timeout" | "disconnected" | "aborted"
    /** The server speaks the protocol of 2016. */
    | "unsupported";

export interface WsOptions {
    /** Subprotocols to offer after the client's own, one of which may be a token. A function makes them before each attempt. */
    protocols?: Made<string | readonly string[] | null | undefined>;
    /** What to add to the URL's query, such as a token. A function makes it before each attempt. */
    query?: Made<Record<string, string | number | boolean> | null | undefined>;
    /**
     * Whether to come back after a close; a number says after how many milliseconds. `attempt` counts from 1, since a connection
     * lasted for five seconds. Default, or true: after all codes but 1000, 1008 and the application's own (4000 to 4999).
     */
    reconnect?: boolean | ((code: number, reason: string, attempt: number) => boolean | number);
    /** The delay is random, between 0 and `minDelay`, and twice as much with each attempt, up to `maxDelay`. Default: 1000, 30000 ms. */
    minDelay?: number;
    maxDelay?: number;
    /** After how many ms of silence to ask whether the server is there. Default: 25000. Only with arke.v1. */
    idle?: number;
    /** How many ms the answer to that, an attempt to connect, or a close may take. Default: 10000. */
    timeout?: number;
    /** How many ms an Ask may take; Infinity: as long as it likes. Default: 10000. */
    askTimeout?: number;
    /** How many messages may wait for a connection. One more: Emit throws a RangeError, Ask is "busy". Default: 1024. */
    maxQueue?: number;
    /** For the protocol of 2016: what an event's text starts with, the server's `event_prefix`. */
    prefix?: string;
    /** The WebSocket to use, for Node before 22: that of the package "ws". Default: the global one. */
    WebSocket?: new (url: string, protocols?: any) => any;
}

export interface EmitOptions {
    /** For how many ms it may wait for a connection; after that it is dropped. */
    ttl?: number;
    /** Not to wait at all. */
    volatile?: boolean;
}

export interface AskOptions {
    /** In ms, the time that it waits for a connection included. Default: the Ws's `askTimeout`. */
    timeout?: number;
    signal?: {
        readonly aborted: boolean;
        readonly reason?: any;
        addEventListener(type: "abort", listener: () => void): void;
        removeEventListener(type: "abort", listener: () => void): void;
    };
    /** Not to wait for a connection: without one it fails as "disconnected". */
    volatile?: boolean;
}

/** Anything that has its bytes: a Blob, a File. */
export interface BlobLike {
    arrayBuffer(): Promise<ArrayBuffer>;
}

export type WsNative = string | ArrayBuffer | ArrayBufferView | BlobLike;

/** Why an Ask, a Join or a Leave failed. The message is the server's own, where it gave one. */
export class WsError extends Error {
    constructor(code: WsErrorCode, event: string, text?: string, cause?: unknown);
    readonly code: WsErrorCode;
    /** The event, or the room. */
    readonly event: string;
    readonly cause: unknown;
}

/** Thrown or returned by a listener, it refuses what the server asks; the server gets its message. */
export class Refusal extends Error {
    constructor(why?: string);
}

export class Ws<ServerEvents extends object = AnyEvents, ClientEvents extends object = AnyEvents> {
    static readonly Error: typeof WsError;
    static readonly Refusal: typeof Refusal;

    constructor(url: Made<string>, options?: WsOptions);
    constructor(url: Made<string>, protocols?: WsOptions["protocols"], options?: WsOptions);

    /** The WebSocket underneath, where there is one. */
    readonly conn: any;
    readonly state: WsState;
    /** What the server speaks: "iris" is the protocol of 2016. Empty before the first connection. */
    readonly protocol: "" | "arke.v1" | "iris";
    /** Messages of an unknown kind, broken ones, late answers; and what was not sent because its ttl had passed. */
    readonly counts: { unknown: number; malformed: number; late: number; expired: number };

    /** Each time that a connection has opened; at once where one is open. */
    OnConnect(listener: () => unknown): Off;
    /** When a connection has opened that is not the first, after OnConnect. */
    OnReconnect(listener: (attempts: number) => unknown): Off;
    /** When the connection is lost, when the first attempt fails, and at the end. */
    OnDisconnect(listener: (code: number, reason: string, willReconnect: boolean) => unknown): Off;
    OnMessage(listener: (message: any) => unknown): Off;
    /** Every event and request, before its own listeners. It does not answer. */
    OnAny(listener: (event: Name<ServerEvents>, value: any) => unknown): Off;
    /** What the listener returns, or a promise of it, answers a request. */
    On<E extends Name<ServerEvents>>(event: E, listener: Listener<ServerEvents[E]>): Off;
    Once<E extends Name<ServerEvents>>(event: E, listener: Listener<ServerEvents[E]>): Off;
    /** Without a listener: all of that event. */
    Off<E extends Name<ServerEvents>>(event: E, listener?: Listener<ServerEvents[E]>): void;

    /** False: it was dropped, because no connection will come or it is volatile. */
    Emit<E extends Name<ClientEvents>>(event: E, ...data: Sent<ClientEvents[E], EmitOptions>): boolean;
    EmitMessage(message: WsNative, options?: EmitOptions): boolean;
    /** Fails with a WsError. It is never sent twice. */
    Ask<E extends Name<ClientEvents>>(event: E, ...data: Sent<ClientEvents[E], AskOptions>): Promise<Answer<ClientEvents[E]>>;
    /** Fails with a WsError where the server refuses. Once in a room, the client asks for it again after each reconnect. */
    Join(room: string, options?: AskOptions): Promise<void>;
    Leave(room: string, options?: AskOptions): Promise<void>;
    Refuse(why?: string): Refusal;

    /** Tries at once where it waits for the next attempt; connects again after the end. */
    Connect(): void;
    /** Ends it: no reconnect. */
    Disconnect(code?: number, reason?: string): void;

    onConnect: this["OnConnect"];
    onReconnect: this["OnReconnect"];
    onDisconnect: this["OnDisconnect"];
    onMessage: this["OnMessage"];
    onAny: this["OnAny"];
    on: this["On"];
    once: this["Once"];
    off: this["Off"];
    emit: this["Emit"];
    emitMessage: this["EmitMessage"];
    ask: this["Ask"];
    join: this["Join"];
    leave: this["Leave"];
    refuse: this["Refuse"];
    connect: this["Connect"];
    disconnect: this["Disconnect"];
}

export {};
