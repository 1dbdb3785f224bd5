/**
 * Upstream: none.
 * Symptom: the age of a request is measured by the time of day. When the clock steps back, a request to a silent broker
 *   does not time out for the length of the step; when it steps forward, every open request times out at once.
 * Change: a request keeps the monotonic time at which it was sent; timeout-check and silent-metadata-broker read that.
 */
import SocketRequest from "kafkajs/src/network/requestQueue/socketRequest.js";
import { method, type Patch } from "./patch.ts";

export const clockRequestTimeout: Patch = {
  id: "clock-request-timeout",
  members: [method(SocketRequest, "send")],
  install() {
    const { send } = SocketRequest.prototype;
    SocketRequest.prototype.send = function (this: SocketRequest) {
      this.sentMs = performance.now();
      send.call(this);
    };
  },
};
