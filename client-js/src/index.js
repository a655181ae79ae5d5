export { Ws } from "./values.js";
