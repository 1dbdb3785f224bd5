/** JSON schemas from an API server's documents: names of kinds, and no room for unknown fields. */

import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { OVERLAYS, schemasOf } from "../../../scripts/conformance/overlays.ts";
import { MANIFEST_FOLDER } from "../../../scripts/deploy/manifests.ts";

const deployment = {
  type: "object",
  properties: {
    kind: { type: "string" },
    // A field with the name of a keyword.
    properties: { type: "object", additionalProperties: { type: "string" } },
    spec: { allOf: [{ $ref: "#/components/schemas/Spec" }], default: {} },
    open: { type: "object", properties: { a: {} }, "x-kubernetes-preserve-unknown-fields": true },
  },
  "x-kubernetes-group-version-kind": [{ group: "apps", version: "v1", kind: "Deployment" }],
};
const spec = { type: "object", properties: { replicas: { type: "integer" } } };
const service = { ...spec, "x-kubernetes-group-version-kind": [{ group: "", version: "v1", kind: "Service" }] };

describe("schemasOf", () => {
  const files = schemasOf([{ components: { schemas: { Deployment: deployment, Spec: spec, Service: service } } }]);
  const closed = JSON.parse(files["apps-v1-deployment.json"]!);

  test("has a file per kind, which refers to its schema", () => {
    expect(Object.keys(files)).toEqual(["apps-v1-deployment.json", "v1-v1-service.json"]);
    expect(closed.$ref).toBe("#/components/schemas/Deployment");
  });

  test("refuses unknown fields where fields are named, and nowhere else", () => {
    const { Deployment, Spec } = closed.components.schemas;
    expect([Deployment.additionalProperties, Spec.additionalProperties]).toEqual([false, false]);
    expect(Deployment.properties.additionalProperties).toBeUndefined();
    expect(Deployment.properties.properties.additionalProperties).toEqual({ type: "string" });
    expect(Deployment.properties.open.additionalProperties).toBeUndefined();
  });
});

test("every overlay and component that is checked exists", () => {
  const folders = Object.values(OVERLAYS).flatMap(({ overlay, components }) => [overlay, ...components]);
  expect(folders.filter((folder) => !existsSync(join(MANIFEST_FOLDER, folder, "kustomization.yaml")))).toEqual([]);
});
