/* A browser by what it calls itself, in two words. Pure, and no more than a hint: browsers say what they like. */

export function browserOf(agent: string): string {
  const name = /Edg\//u.test(agent) ? "Edge" : /Firefox\//u.test(agent) ? "Firefox" : /(?:Headless)?Chrome\//u.test(agent) ? "Chrome" : /Safari\//u.test(agent) ? "Safari" : "";
  const system = /iPhone|iPad/u.exec(agent)?.[0] ?? (/Android/u.test(agent) ? "Android" : /Mac OS/u.test(agent) ? "macOS" : /Windows/u.test(agent) ? "Windows" : /Linux|X11/u.test(agent) ? "Linux" : "");
  if (!name && !system) return agent.slice(0, 60) || "a browser that does not say";
  return [name || "A browser", system].filter(Boolean).join(" on ");
}
