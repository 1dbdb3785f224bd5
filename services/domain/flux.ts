/** A text as a string of Flux, which would expand "${…}" in it. */
export const fluxString = (text: string): string => JSON.stringify(text).replaceAll("$", String.raw`\x24`);
