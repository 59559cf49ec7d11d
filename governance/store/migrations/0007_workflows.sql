-- Work on regulations that goes through people: who asked, who agreed, what state it is in. A release approval is one of them.
CREATE TABLE workflows (
  tenant             text           NOT NULL REFERENCES tenants,
  id                 uuid           NOT NULL,
  kind               text           NOT NULL CHECK (kind IN ('review', 'release')),
  regulation         text           NOT NULL,
  name               text           NOT NULL,
  description        text           NOT NULL,
  status             text           NOT NULL DEFAULT 'draft'
    CHECK (status IN ('draft', 'in_review', 'approved', 'rejected', 'completed', 'revoked', 'cancelled')),
  paused             boolean        NOT NULL DEFAULT false,
  required_approvals integer        NOT NULL CHECK (required_approvals BETWEEN 1 AND 5),
  requested_by       text           NOT NULL,
  requester_kind     text           NOT NULL CHECK (requester_kind IN ('user', 'service_account')),
  requester_id       uuid           NOT NULL,
  due_at             timestamptz(3),
  -- What may be released: {resource, version or digest, channel, expires_at}; null for a review.
  release            jsonb,
  version            integer        NOT NULL DEFAULT 1,
  created_at         timestamptz(3) NOT NULL DEFAULT now(),
  updated_at         timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  CHECK ((kind = 'release') = (release IS NOT NULL))
);
CREATE INDEX workflows_newest ON workflows (tenant, created_at DESC, id DESC);
CREATE INDEX workflows_by_status ON workflows (tenant, status, created_at DESC, id DESC);
CREATE INDEX workflows_released ON workflows (tenant, id) WHERE kind = 'release' AND status = 'approved';

-- Who agreed to what a workflow is now. They go when it changes back to draft.
CREATE TABLE workflow_approvals (
  tenant      text           NOT NULL,
  workflow_id uuid           NOT NULL,
  kind        text           NOT NULL CHECK (kind IN ('user', 'service_account')),
  id          uuid           NOT NULL,
  name        text           NOT NULL,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, workflow_id, kind, id),
  FOREIGN KEY (tenant, workflow_id) REFERENCES workflows
);

CREATE TABLE workflow_history (
  tenant      text           NOT NULL,
  id          uuid           NOT NULL,
  workflow_id uuid           NOT NULL,
  old_status  text           NOT NULL,
  new_status  text           NOT NULL,
  made_by     text           NOT NULL,
  comment     text           NOT NULL,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, workflow_id) REFERENCES workflows
);
CREATE INDEX workflow_history_of ON workflow_history (tenant, workflow_id, created_at, id);

-- Steps: who does what until when.
CREATE TABLE tasks (
  tenant      text           NOT NULL,
  id          uuid           NOT NULL,
  workflow_id uuid           NOT NULL,
  title       text           NOT NULL,
  assigned_to uuid,
  status      text           NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done')),
  due_at      timestamptz(3),
  version     integer        NOT NULL DEFAULT 1,
  created_at  timestamptz(3) NOT NULL DEFAULT now(),
  updated_at  timestamptz(3) NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, id),
  FOREIGN KEY (tenant, workflow_id) REFERENCES workflows
);
CREATE INDEX tasks_newest ON tasks (tenant, created_at DESC, id DESC);
CREATE INDEX tasks_of_workflow ON tasks (tenant, workflow_id, created_at, id);
CREATE INDEX tasks_by_assignee ON tasks (tenant, assigned_to, created_at DESC, id DESC);

SELECT fence('workflows'), fence('workflow_approvals'), fence('workflow_history'), fence('tasks');
GRANT SELECT, INSERT, UPDATE ON workflows, tasks TO signet_governance;
GRANT SELECT, INSERT, DELETE ON workflow_approvals TO signet_governance;
GRANT SELECT, INSERT ON workflow_history TO signet_governance;
