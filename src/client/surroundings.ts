/** What a page or a worker has around it, and other places have in part or not at all. */
interface Surroundings {
  readonly navigator?: { readonly onLine?: boolean }
  readonly document?: EventTarget & { readonly visibilityState?: string }
  readonly addEventListener?: EventTarget['addEventListener']
  readonly removeEventListener?: EventTarget['removeEventListener']
}

const around = globalThis as unknown as Surroundings

/** The browser says that there is no network. It may be wrong, above all about servers on the same machine. */
export const isOffline = (): boolean => around.navigator?.onLine === false

/**
 * Tells when it is worth looking after a connection at once.
 * @param onOnline there is a network again: connections of the one before are dead, and nobody says so
 * @param onShown the page is looked at again: its timers may have stood still
 * @returns what ends it
 */
export function watchSurroundings(onOnline: () => void, onShown: () => void): () => void {
  const shown = () => {
    if (around.document?.visibilityState === 'visible') onShown()
  }
  around.addEventListener?.('online', onOnline)
  around.document?.addEventListener('visibilitychange', shown)
  return () => {
    around.removeEventListener?.('online', onOnline)
    around.document?.removeEventListener('visibilitychange', shown)
  }
}
