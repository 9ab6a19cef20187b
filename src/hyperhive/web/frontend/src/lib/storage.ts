// The origin's storage, where it may be full, shut or hold nonsense: then a thing is remembered as long as the page.

/** Keep it; null forgets. Whether that was possible. */
export function keep(key: string, value: string | null): boolean {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

export function kept(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
