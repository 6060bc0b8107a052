/**
 * How an owned log stands to Redis:
 * - `through`: every batch goes to Redis first, and to the readers when it is there;
 * - `behind`: readers first, and Redis gets what it lacks as soon as it takes it;
 * - `apart`: Redis will never have all of it, and the readers here are all it has;
 * - `fenced`: another replica writes it now.
 */
export type State = 'through' | 'behind' | 'apart' | 'fenced'

/** What came of a batch: Redis has it; nobody knows; Redis has lost what came before; another replica writes now. */
export type Outcome = 'stored' | 'away' | 'lost' | 'fenced'

/** The one table of what follows from that. */
export const transitions: Record<State, Record<Outcome, State>> = {
  through: { stored: 'through', away: 'behind', lost: 'apart', fenced: 'fenced' },
  behind: { stored: 'behind', away: 'behind', lost: 'apart', fenced: 'fenced' },
  apart: { stored: 'apart', away: 'apart', lost: 'apart', fenced: 'apart' },
  fenced: { stored: 'fenced', away: 'fenced', lost: 'fenced', fenced: 'fenced' },
}
