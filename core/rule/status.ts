import Type from 'typebox'

/** `metav1.Condition` (https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.33/#condition-v1-meta). */
export const StatusCondition = Type.Object({
  type: Type.String({ maxLength: 316, pattern: '^[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?$' }),
  status: Type.Enum(['True', 'False', 'Unknown']),
  observedGeneration: Type.Optional(Type.Integer({ minimum: 0 })),
  lastTransitionTime: Type.String({ format: 'date-time' }),
  reason: Type.String({ minLength: 1, maxLength: 1024, pattern: '^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$' }),
  message: Type.String({ maxLength: 32_768 }),
})
export type StatusCondition = Type.Static<typeof StatusCondition>
