/** Images that neither a source nor an archive provides: the target may have them from an earlier deploy. */
import { describe, expect, test } from "bun:test";
import { heldOrMissing } from "../../../scripts/images/index.ts";

describe("heldOrMissing", () => {
  const image = "docker.io/grafana/loki:3.7.6";
  test("returns present for an image that the cluster has from an earlier archive", async () => {
    const holds = async (asked: string) => (asked === image ? { digest: "sha256:1" } : undefined);
    expect(await heldOrMissing("grafana/loki:3.7.6", "how to get it", { holds })).toEqual({
      ref: "grafana/loki:3.7.6",
      action: "present",
      digest: "sha256:1",
    });
  });
  test.each([
    ["the cluster no longer has it", { holds: async () => undefined }],
    ["the target cannot list its images", {}],
  ])("returns missing where %s", async (_, target) => {
    expect(await heldOrMissing(image, "how to get it", target)).toEqual({
      ref: image,
      action: "missing",
      hint: "how to get it",
    });
  });
});
