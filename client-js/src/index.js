export { Refusal, Ws, WsError } from "./ws.js";
