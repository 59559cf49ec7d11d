import type { IncomingHttpHeaders } from 'node:http'
import { SELECTED_REQUEST_HEADERS, SELECTED_RESPONSE_HEADERS, type DecisionInput } from '#core/policy/decision.ts'
import { CLASSIFICATIONS, type Classification } from '#core/stamp/schema.ts'
import type { AnswerCoding } from '../coding/answer-coding.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import type { RouteFacts } from '../policy/routes.ts'
import type { DeclaredLineage } from '../lineage.ts'
import type { Inspection } from './inspect.ts'

/** An upstream answer about to leave. */
export type Answer = {
  readonly status: number
  readonly mediaType: string
  readonly headers: IncomingHttpHeaders
  readonly coding: AnswerCoding
  readonly lineage: DeclaredLineage
}

export type Workload = { readonly producerId: string; readonly namespace: string; readonly region: string | null }

function selected(headers: IncomingHttpHeaders, names: readonly string[]): Record<string, string> {
  const out: Record<string, string> = {}
  for (const name of names) {
    const value = headers[name]
    if (value !== undefined) out[name] = String(value).slice(0, 1024)
  }
  return out
}

/** Puts together `input` of the rules at stage `egress`: facts only, no judgement. `payloadDigest` is null where it is not known yet. */
export function gatherInput(
  context: ExchangeContext,
  answer: Answer,
  inspection: Inspection,
  size: number | null,
  payloadDigest: string | null,
  workload: Workload,
  nowMs: number,
): DecisionInput {
  const { policy } = context
  const route = policy.routes.match(context.method, context.path)
  const { lineage } = answer
  const input: DecisionInput = {
    stage: 'egress',
    tenant: context.tenant,
    channel: context.channel,
    request: {
      method: context.method,
      path: context.path,
      path_template: route?.template ?? null,
      matched_templates: policy.matchedTemplates(context.path),
      headers: selected(context.headers, SELECTED_REQUEST_HEADERS),
      caller: { subject: context.caller.subject, roles: [...context.caller.roles], region: context.caller.region },
    },
    response: {
      status: answer.status,
      media_type: answer.mediaType,
      size,
      headers: selected(answer.headers, SELECTED_RESPONSE_HEADERS),
      upstream_stamp: inspection.upstreamStamp,
      facts: inspection.facts,
    },
    route: route === null ? null : routeFacts(route),
    lineage: {
      source_assets: [...lineage.sourceAssets],
      transformations: [...lineage.transformations],
    },
    workload: {
      producer_id: workload.producerId,
      namespace: workload.namespace,
      region: workload.region,
      labels: policy.labels,
    },
    approvals:
      route === null || route.ambiguous
        ? []
        : policy.approvals.match({
            template: route.template,
            channel: context.channel,
            version: lineage.artifactVersion,
            digest: payloadDigest,
            nowMs,
          }),
    blocks: policy.blocks.match({
      method: context.method,
      path: context.path,
      caller: context.caller.subject,
      producerId: workload.producerId,
      nowMs,
    }),
  }
  if (lineage.modelVersion !== undefined) input.lineage.model_version = lineage.modelVersion
  if (lineage.inputHash !== undefined) input.lineage.input_hash = lineage.inputHash
  const declared = declaredClassification(lineage.classification, inspection.verified?.stamp.data_classification)
  if (declared !== undefined) input.lineage.declared_classification = declared
  if (lineage.artifactVersion !== undefined) input.lineage.artifact_version = lineage.artifactVersion
  return input
}

function routeFacts(route: RouteFacts): DecisionInput['route'] {
  const facts: NonNullable<DecisionInput['route']> = {}
  if (route.classification !== undefined) facts.classification = route.classification
  if (route.regulations !== undefined) facts.regulations = [...route.regulations]
  if (route.regions !== undefined) facts.regions = [...route.regions]
  return facts
}

/**
 * The higher of what the application declares and what the stamp says that its body came with: what was confidential on its way in does
 * not become public on its way out. Something that is no classification stays as it is, for the rule to refuse.
 */
function declaredClassification(declared: string | undefined, stamped: Classification | undefined): string | undefined {
  if (declared === undefined || stamped === undefined) return declared ?? stamped
  const known = CLASSIFICATIONS.findIndex((each) => each === declared)
  return known === -1 || known > CLASSIFICATIONS.indexOf(stamped) ? declared : stamped
}
