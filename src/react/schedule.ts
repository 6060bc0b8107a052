/** What a page has for painting, and a server has not. */
interface Painting {
  readonly requestAnimationFrame?: (work: () => void) => unknown
  readonly document?: { readonly visibilityState?: string }
}

/** Between two updates of a page that nobody looks at, in milliseconds. */
const unseenMs = 250

/** Runs `work` before the next painting; a page that is not painted has it run all the same, now and then. */
export function beforePainting(work: () => void): void {
  const { requestAnimationFrame, document } = globalThis as unknown as Painting
  if (requestAnimationFrame && document?.visibilityState === 'visible') requestAnimationFrame(work)
  else setTimeout(work, unseenMs)
}
