-- Policies in Rego, their versions, which of them is in force, and the bundles that proxies load.
CREATE TABLE policies (
  tenant         text           NOT NULL REFERENCES tenants,
  id             uuid           NOT NULL,
  name           text           NOT NULL,
  -- What the rule is called in bundles, decisions and stamps; stays as it is when the policy is renamed.
  rule_id        text           NOT NULL,
  policy_type    text           NOT NULL CHECK (policy_type = 'opa_rego'),
  -- The number of its newest version, and of the one in force; null: none is.
  latest         integer        NOT NULL DEFAULT 1,
  active         integer,
  version        integer        NOT NULL DEFAULT 1,
  created_at     timestamptz(3) NOT NULL DEFAULT now(),
  updated_at     timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  UNIQUE (tenant, rule_id)
);
CREATE UNIQUE INDEX policies_name ON policies (tenant, lower(name));
CREATE INDEX policies_newest ON policies (tenant, created_at DESC, id DESC);

-- What a version says never changes. `wasm`: its decision by itself, for evaluations.
CREATE TABLE policy_versions (
  tenant          text           NOT NULL,
  policy_id       uuid           NOT NULL,
  number          integer        NOT NULL,
  description     text           NOT NULL,
  rego_content    text           NOT NULL,
  regulation_refs jsonb          NOT NULL,
  severity        text           NOT NULL,
  mode            text           NOT NULL CHECK (mode IN ('shadow', 'enforce')),
  entrypoint      text           NOT NULL,
  wasm            bytea          NOT NULL,
  wasm_sha256     text           NOT NULL,
  created_by      text           NOT NULL,
  created_at      timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, policy_id, number),
  FOREIGN KEY (tenant, policy_id) REFERENCES policies
);

-- Every change of what is in force; `number` null: it was taken out of force.
CREATE TABLE policy_activations (
  tenant     text           NOT NULL,
  id         uuid           NOT NULL,
  policy_id  uuid           NOT NULL,
  number     integer,
  made_by    text           NOT NULL,
  created_at timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, policy_id) REFERENCES policies
);
CREATE INDEX policy_activations_newest ON policy_activations (tenant, policy_id, created_at DESC, id DESC);

-- Signed bundles, newest last. `inputs_sha256`: of all that decides what is in it, so that it is known without compiling whether it is what it should be.
CREATE TABLE bundle_revisions (
  tenant        text           NOT NULL REFERENCES tenants,
  sequence      bigint         NOT NULL,
  revision      text           NOT NULL,
  inputs_sha256 text           NOT NULL,
  bundle        bytea          NOT NULL,
  etag          text           NOT NULL,
  -- Policies that are in force but could not be compiled with the others: {rule_id: message}.
  problems      jsonb          NOT NULL DEFAULT '{}',
  issued_at     timestamptz(3) NOT NULL,
  expires_at    timestamptz(3) NOT NULL,
  PRIMARY KEY (tenant, sequence)
);

SELECT fence('policies'), fence('policy_versions'), fence('policy_activations'), fence('bundle_revisions');
GRANT SELECT, INSERT, UPDATE ON policies TO signet_governance;
GRANT SELECT, INSERT ON policy_versions, policy_activations TO signet_governance;
GRANT SELECT, INSERT, DELETE ON bundle_revisions TO signet_governance;
