import type { Turn } from '../client/stream.ts'

const name = 'sluice.talk'

/** A conversation and the stream under way in it, as this tab keeps it over a reload. */
interface SavedTalk {
  readonly turns: readonly Turn[]
  readonly stream?: string | undefined
}

/** @returns false when it is too large to be kept: files take much room */
export function saveTalk(talk: SavedTalk): boolean {
  try {
    sessionStorage.setItem(name, JSON.stringify(talk))
    return true
  } catch (error) {
    if (!(error instanceof DOMException)) throw error
    sessionStorage.removeItem(name)
    return false
  }
}

export function savedTalk(): SavedTalk {
  try {
    const talk = JSON.parse(sessionStorage.getItem(name) ?? '{}') as Partial<SavedTalk>
    return { turns: Array.isArray(talk.turns) ? talk.turns : [], stream: talk.stream }
  } catch {
    // Not ours: there is nothing to go on with.
    return { turns: [] }
  }
}

/** Forgets it, and shows the page as it was at first. */
export function beginAnew(): void {
  sessionStorage.removeItem(name)
  location.assign('./')
}
