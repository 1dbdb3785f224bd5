/** Opens an address in the user's browser; without a browser the printed address remains. */
export function openBrowser(url: string): void {
  const command = ["xdg-open", "open"].map((name) => Bun.which(name)).find(Boolean);
  if (command) Bun.spawn([command, url], { stdin: "ignore", stdout: "ignore", stderr: "ignore" }).unref();
}
