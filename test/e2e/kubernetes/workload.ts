import { NODE_IMAGES } from '#tools/kubernetes/images.ts'

export const NAMESPACE = 'payments'
export const APP = 'reports'
export const REPLICAS = 3
export const ADMIN_PORT = 15_094
export const APP_PORT = 8080

const RESTRICTED = {
  runAsNonRoot: true,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
}

/** A Deployment and its Service as their team writes them: of Signet there is the annotation alone. */
export function application(): object {
  return {
    apiVersion: 'v1',
    kind: 'List',
    items: [
      {
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: APP, namespace: NAMESPACE },
        spec: {
          replicas: REPLICAS,
          selector: { matchLabels: { app: APP } },
          template: {
            metadata: { labels: { app: APP }, annotations: { 'signet.dev/inject': 'enabled' } },
            spec: { terminationGracePeriodSeconds: 20, containers: [container([])] },
          },
        },
      },
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: APP, namespace: NAMESPACE },
        spec: { selector: { app: APP }, ports: [{ port: 80, targetPort: 'http' }] },
      },
    ],
  }
}

/** Asks `url` once and is done. */
export function job(name: string, url: string): object {
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, namespace: NAMESPACE },
    spec: {
      backoffLimit: 3,
      template: {
        spec: {
          restartPolicy: 'Never',
          containers: [
            {
              name,
              image: NODE_IMAGES.demo,
              imagePullPolicy: 'Never',
              args: ['job', url],
              securityContext: RESTRICTED,
            },
          ],
        },
      },
    },
  }
}

function container(args: string[]): object {
  return {
    name: 'app',
    image: NODE_IMAGES.demo,
    imagePullPolicy: 'Never',
    args,
    ports: [{ name: 'http', containerPort: APP_PORT }],
    readinessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 1 },
    livenessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 10 },
    securityContext: RESTRICTED,
  }
}

export type RuleMode = 'enforce' | 'shadow'

/** Nothing whose state is «draft» leaves. */
export function draftRule(mode: RuleMode): object {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'ComplianceRule',
    metadata: { name: 'no-drafts', namespace: NAMESPACE },
    spec: {
      description: 'Drafts stay inside',
      frameworks: ['SOX'],
      severity: 'high',
      match: { pathTemplates: ['/drafts/{id}'] },
      enforcement: { mode },
      conditions: { all: [{ fact: 'response.body.state', operator: 'notEqual', value: 'draft' }] },
      remediation: { hint: 'Publish it first' },
    },
  }
}
