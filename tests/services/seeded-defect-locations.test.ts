import { expect, test } from "bun:test";
import { join } from "node:path";
import { SEEDED } from "../integration/seeded-patches.ts";

const SERVICES = join(import.meta.dir, "../../services");

test.each(Object.entries(SEEDED))("the text that the seeded defect %s replaces occurs once", async (_, patches) => {
  // In order, since a later patch may apply to the result of an earlier one.
  const texts = new Map<string, string>();
  for (const { file, was, becomes } of patches) {
    const text = texts.get(file) ?? (await Bun.file(join(SERVICES, file)).text());
    expect(text.split(was), `services/${file}`).toHaveLength(2);
    texts.set(
      file,
      text.replace(was, () => becomes),
    );
  }
});
