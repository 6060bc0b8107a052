import { z } from 'zod'

/** Who sends a request, and what he may do. */
export interface Caller {
  /** Whose streams are his, whichever credential he comes with; empty where nobody is told from anybody. */
  readonly principal: string
  /** Stands for the credential that he came with; good for nothing but asking whether it is still valid. */
  readonly key: string
  /** Presets that he may name, and nothing beside them; without it, whatever the settings allow to all. */
  readonly presets?: readonly string[] | undefined
  /** The only stream that he may read. */
  readonly stream?: string | undefined
  /** When his credential is over, in milliseconds since 1970; without it, that is not known before. */
  readonly until?: number | undefined
  /** Limits of his own: each stands in the place of the one that all have. */
  readonly limits?: Limits | undefined
  /** May have tickets made for other principals than himself. */
  readonly speaksForOthers?: boolean | undefined
}

const count = z.int().min(1).max(1_000_000).optional()

/** How much one principal may use; what is not there is not limited. */
export const limitsSchema = z.strictObject({
  requests_per_minute: count,
  concurrent_streams: count,
  /** Input and output, cached or not, from midnight to midnight UTC. */
  tokens_per_day: z.int().min(1).max(1e12).optional(),
  /** By `upstream.prices`, from midnight to midnight UTC. */
  usd_per_day: z.number().positive().max(1e6).optional(),
})

export type Limits = Readonly<z.output<typeof limitsSchema>>

export const anybody: Caller = { principal: '', key: '' }
