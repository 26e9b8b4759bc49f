"""Every name that spans and metrics carry, in one place: OpenTelemetry's conventions, and ours beside them.

Those for messaging and for generative AI are of status "Development": they may
still change, and then they change here. docs/reference/opentelemetry.md lists
them; a test compares.
"""

from __future__ import annotations

from typing import Final

SCOPE: Final = "antiphon"
"""The instrumentation scope of all that is exported."""

# -- resources ------------------------------------------------------------------

SERVICE_NAME: Final = "service.name"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE: Final = "service.instance.id"

# -- messaging ------------------------------------------------------------------

MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_OPERATION: Final = "messaging.operation.name"
MESSAGING_OPERATION_TYPE: Final = "messaging.operation.type"
MESSAGING_DESTINATION: Final = "messaging.destination.name"
MESSAGING_PARTITION: Final = "messaging.destination.partition.id"
MESSAGING_GROUP: Final = "messaging.consumer.group.name"
MESSAGING_OFFSET: Final = "messaging.kafka.offset"
MESSAGING_KEY: Final = "messaging.kafka.message.key"
MESSAGING_ID: Final = "messaging.message.id"
MESSAGING_CONVERSATION: Final = "messaging.message.conversation_id"
KAFKA: Final = "kafka"
SEND: Final = "send"
PROCESS: Final = "process"

# -- generative AI --------------------------------------------------------------

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_AGENT: Final = "gen_ai.agent.name"
GEN_AI_AGENT_VERSION: Final = "gen_ai.agent.version"
GEN_AI_WORKFLOW: Final = "gen_ai.workflow.name"
GEN_AI_CONVERSATION: Final = "gen_ai.conversation.id"
GEN_AI_MODEL: Final = "gen_ai.request.model"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - a model's token
GEN_AI_COST: Final = "gen_ai.usage.cost.amount"
GEN_AI_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
GEN_AI_COST_SOURCE: Final = "gen_ai.usage.cost.source"
GEN_AI_INPUT: Final = "gen_ai.input.messages"
GEN_AI_OUTPUT: Final = "gen_ai.output.messages"
GEN_AI_EVALUATION_RESULT: Final = "gen_ai.evaluation.result"
GEN_AI_EVALUATION: Final = "gen_ai.evaluation.name"
GEN_AI_SCORE: Final = "gen_ai.evaluation.score.value"
INVOKE_WORKFLOW: Final = "invoke_workflow"
INVOKE_AGENT: Final = "invoke_agent"
CHAT: Final = "chat"
CONFIDENCE: Final = "confidence"
REPORTED: Final = "reported"
"""Where a cost comes from: the agent said it, by `context.spend`."""

# -- errors ---------------------------------------------------------------------

ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

# -- ours -----------------------------------------------------------------------

EVENT_TYPE: Final = "antiphon.event.type"
ATTEMPT: Final = "antiphon.delivery.attempt"
OUTCOME: Final = "antiphon.delivery.outcome"
QUEUE_WAIT: Final = "antiphon.delivery.queue_wait"
"""Seconds from the event's time to the start of its handling."""
STATE: Final = "antiphon.workflow.state"
EVENTS: Final = "antiphon.workflow.events"
WARNINGS: Final = "antiphon.workflow.warnings"
REPLAY_OF: Final = "antiphon.workflow.replay_of"
CURRENCY: Final = "antiphon.currency"

# -- metrics --------------------------------------------------------------------

PROCESS_DURATION: Final = "messaging.process.duration"
SENT_MESSAGES: Final = "messaging.client.sent.messages"
CONSUMED_MESSAGES: Final = "messaging.client.consumed.messages"
TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - likewise
CALL_DURATION: Final = "gen_ai.client.operation.duration"
DELIVERY_ATTEMPTS: Final = "antiphon.delivery.attempts"
DELIVERY_QUEUE_WAIT: Final = "antiphon.delivery.queue_wait"
SAGA_WORKFLOWS: Final = "antiphon.saga.workflows"
COST: Final = "antiphon.cost"
LAG: Final = "antiphon.lag"
