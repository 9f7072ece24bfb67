package feedback

import "strings"

// Place is where in an answer a code must stand to have its meaning.
type Place uint8

const (
	// PlaceAny is every place that codes are read from, except gRPC's status.
	PlaceAny Place = iota
	// PlaceErrorCode is a string in error.code.
	PlaceErrorCode
	// PlaceErrorType is error.type.
	PlaceErrorType
	// PlaceTopCode is the top-level code.
	PlaceTopCode
	// PlaceErrorNumber is the top-level error_code.
	PlaceErrorNumber
	// PlaceBaseResp is base_resp.status_code.
	PlaceBaseResp
	// PlaceGRPC is the grpc-status field.
	PlaceGRPC
	// PlaceProblem is the end of the type of an RFC 9457 problem.
	PlaceProblem
)

var placeNames = [...]string{
	"any", "error.code", "error.type", "code", "error_code", "base_resp.status_code", "grpc-status", "problem type",
}

// String returns the place as the documents write it.
func (p Place) String() string {
	if int(p) < len(placeNames) {
		return placeNames[p]
	}
	return "unknown"
}

// Code is one row of the table of codes: a word or number that upstreams send, and what
// it means.
type Code struct {
	// Code is compared without regard to letter case.
	Code string
	// Place is where the code must stand.
	Place Place
	// Class and Scope are what it means. ScopeUnknown beside Throttled means that the
	// wording, the quota id or an exhausted window tells the limit.
	Class Class
	Scope Scope
	// Generic says that the code only counts when no other code is found.
	Generic bool
	// Retryable differs from its class's rule for two codes of gRPC.
	Retryable bool
	// Provider is who sends it; Source is where that is documented.
	Provider, Source string
}

// Codes returns a copy of the table of codes.
func Codes() []Code { return append([]Code(nil), codeTable...) }

// codeTable is the one list of codes. Codes that are numbers belong to a place, because the
// same number elsewhere means something else: 1002 is MiniMax's rate limit and a bad
// token at Zhipu.
var codeTable = buildCodes()

func buildCodes() []Code {
	var t []Code
	add := func(provider, source string, place Place, class Class, scope Scope, codes ...string) {
		for _, c := range codes {
			t = append(t, Code{
				Code: c, Place: place, Class: class, Scope: scope, Provider: provider, Source: source,
				Retryable: class == Throttled || class == Overloaded || class == Timeout || class == ServerError,
			})
		}
	}
	generic := func(provider, source string, place Place, codes ...string) {
		add(provider, source, place, Throttled, ScopeUnknown, codes...)
		for i := range codes {
			t[len(t)-1-i].Generic = true
		}
	}

	// No money, no plan, a spent allowance.
	const (
		openai    = "OpenAI, error codes"
		anthropic = "Claude API, errors"
		google    = "Gemini API, troubleshooting; google.rpc.Code"
		bedrock   = "Amazon Bedrock, API error codes"
		dashscope = "Alibaba Model Studio, error codes"
		zhipu     = "BigModel, error code table"
		moonshot  = "Moonshot, error reference"
		qianfanV1 = "Baidu Qianfan v1, error codes"
		qianfanV2 = "Baidu Qianfan v2, error codes"
		ark       = "Volcengine Ark, error codes"
		hunyuan   = "Tencent Hunyuan, error codes"
		minimax   = "MiniMax, error codes"
		silicon   = "SiliconFlow, API reference"
		grpcCodes = "gRPC, status codes"
		problems  = "draft-ietf-httpapi-ratelimit-headers, problem types"
	)
	q := QuotaExhausted
	add("openai", openai, PlaceAny, q, ScopeUnknown,
		"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
		"project_spend_limit_exceeded", "organization_usage_limit_exceeded", "billing_not_active",
		"billing_hard_limit_reached")
	add("anthropic", anthropic, PlaceAny, q, ScopeUnknown, "billing_error", "enforced_spend_limit_reached")
	add("moonshot", moonshot, PlaceAny, q, ScopeUnknown, "exceeded_current_quota_error")
	add("dashscope", dashscope, PlaceAny, q, ScopeUnknown,
		"Arrearage", "AllocationQuota.FreeTierOnly", "PrepaidBillOverdue", "PostpaidBillOverdue", "BudgetLimitExceeded")
	add("volcengine-ark", ark, PlaceAny, q, ScopeUnknown, "AccountOverdueError", "QuotaExceeded", "SetLimitExceeded")
	add("qianfan", qianfanV2, PlaceAny, q, ScopeUnknown, "account_overdue")
	add("hunyuan", hunyuan, PlaceAny, q, ScopeUnknown,
		"FailedOperation.ResourcePackExhausted", "FailedOperation.FreeResourcePackExhausted")
	add("bedrock", bedrock, PlaceAny, q, ScopeUnknown, "ServiceQuotaExceededException")
	add("gemini", "gemini-cli, ErrorInfo reasons", PlaceAny, q, ScopeUnknown, "QUOTA_EXHAUSTED")
	add("elevenlabs", "ElevenLabs, errors", PlaceAny, q, ScopeUnknown, "quota_exceeded")
	add("zhipu", zhipu, PlaceErrorCode, q, ScopeUnknown, "1113", "1308", "1309")
	add("minimax", minimax, PlaceBaseResp, q, ScopeUnknown, "1008", "2056")
	add("siliconflow", silicon, PlaceTopCode, q, ScopeUnknown, "30001")

	// A window of a day or longer.
	add("zhipu", zhipu, PlaceErrorCode, q, ScopeDaily, "1304", "1310")
	add("qianfan", qianfanV1, PlaceErrorNumber, q, ScopeDaily, "17", "19")
	add("volcengine-ark", ark, PlaceAny, q, ScopeDaily, "RateLimitExceeded.FoundationModelTPDExceeded")

	// Too many at once.
	add("zhipu", zhipu, PlaceErrorCode, Throttled, ScopeConcurrency, "1302")
	add("volcengine-ark", ark, PlaceAny, Throttled, ScopeConcurrency, "InflightBatchsizeExceeded")
	add("minimax", minimax, PlaceBaseResp, Throttled, ScopeConcurrency, "1041")
	add("elevenlabs", "ElevenLabs, errors", PlaceAny, Throttled, ScopeConcurrency, "too_many_concurrent_requests")
	add("openrouter", "OpenRouter, errors", PlaceAny, Throttled, ScopeConcurrency, "openrouter_in_flight_budget")
	add("stripe", "Stripe, rate limits", PlaceAny, Throttled, ScopeConcurrency, "lock_timeout")

	// Too many requests a minute.
	add("zhipu", zhipu, PlaceErrorCode, Throttled, ScopeRequests, "1303")
	add("openai", openai, PlaceAny, Throttled, ScopeRequests, "slow_down")
	add("openai", openai, PlaceErrorType, Throttled, ScopeRequests, "requests")
	add("qianfan", qianfanV2, PlaceAny, Throttled, ScopeRequests, "rpm_rate_limit_exceeded")
	add("perplexity", "Perplexity, users' reports", PlaceAny, Throttled, ScopeRequests, "request_rate_limit_exceeded")
	add("dashscope", dashscope, PlaceAny, Throttled, ScopeRequests,
		"limit_requests", "limit_burst_rate", "Throttling.RateQuota", "Throttling.BurstRate")
	add("volcengine-ark", ark, PlaceAny, Throttled, ScopeRequests,
		"RateLimitExceeded.EndpointRPMExceeded", "ModelAccountRpmRateLimitExceeded",
		"APIAccountRpmRateLimitExceeded", "RequestBurstTooFast")
	add("hunyuan", hunyuan, PlaceAny, Throttled, ScopeRequests, "RequestLimitExceeded")
	add("huawei-maas", "langgenius/dify issue 18378", PlaceAny, Throttled, ScopeRequests, "APIG.0308")
	add("qianfan", qianfanV1, PlaceErrorNumber, Throttled, ScopeRequests, "18", "336501")
	add("minimax", minimax, PlaceBaseResp, Throttled, ScopeRequests, "1002")

	// Too many tokens a minute.
	add("openai", openai, PlaceErrorType, Throttled, ScopeTokens, "tokens")
	add("qianfan", qianfanV2, PlaceAny, Throttled, ScopeTokens, "tpm_rate_limit_exceeded")
	add("dashscope", dashscope, PlaceAny, Throttled, ScopeTokens, "Throttling.AllocationQuota")
	add("volcengine-ark", ark, PlaceAny, Throttled, ScopeTokens,
		"RateLimitExceeded.EndpointTPMExceeded", "RateLimitExceeded.EndpointFlexTPMExceeded",
		"ModelAccountTpmRateLimitExceeded")
	add("qianfan", qianfanV1, PlaceErrorNumber, Throttled, ScopeTokens, "336502")
	add("minimax", minimax, PlaceBaseResp, Throttled, ScopeTokens, "1039")
	add("qianfan", qianfanV2, PlaceAny, Throttled, ScopeInputTokens, "input_tpm_rate_limit_exceeded")
	add("qianfan", qianfanV2, PlaceAny, Throttled, ScopeOutputTokens, "output_tpm_rate_limit_exceeded")

	// The upstream lacks capacity.
	add("anthropic", anthropic, PlaceAny, Overloaded, ScopeNone, "overloaded_error")
	add("moonshot", moonshot, PlaceAny, Overloaded, ScopeNone, "engine_overloaded_error")
	add("openai", openai, PlaceAny, Overloaded, ScopeNone, "server_is_overloaded")
	add("volcengine-ark", ark, PlaceAny, Overloaded, ScopeNone, "ServerOverloaded")
	add("gemini", google, PlaceAny, Overloaded, ScopeNone,
		"UNAVAILABLE", "MODEL_CAPACITY_EXHAUSTED", "MODEL_CAPACITY_EXCEEDED")
	add("bedrock", bedrock, PlaceAny, Overloaded, ScopeNone, "ServiceUnavailableException", "ModelNotReadyException")
	add("elevenlabs", "ElevenLabs, errors", PlaceAny, Overloaded, ScopeNone, "system_busy")
	add("cerebras", "Cerebras, error codes", PlaceAny, Overloaded, ScopeNone, "queue_exceeded")
	add("mistral", "Mistral, users' reports", PlaceAny, Overloaded, ScopeNone, "service_tier_capacity_exceeded")
	add("mistral", "Mistral, users' reports", PlaceTopCode, Overloaded, ScopeNone, "3505")
	add("zhipu", zhipu, PlaceErrorCode, Overloaded, ScopeNone, "1305", "1312")
	add("siliconflow", silicon, PlaceTopCode, Overloaded, ScopeNone, "50505")
	add("qianfan", qianfanV1, PlaceErrorNumber, Overloaded, ScopeNone, "336100")
	add("grpc", grpcCodes, PlaceGRPC, Overloaded, ScopeNone, "14")
	add("ietf", problems, PlaceProblem, Overloaded, ScopeNone, "temporary-reduced-capacity")

	// It gave up waiting.
	add("bedrock", bedrock, PlaceAny, Timeout, ScopeNone, "ModelTimeoutException")
	add("anthropic", anthropic, PlaceAny, Timeout, ScopeNone, "timeout_error")
	add("gemini", google, PlaceAny, Timeout, ScopeNone, "DEADLINE_EXCEEDED")
	add("hunyuan", hunyuan, PlaceAny, Timeout, ScopeNone, "FailedOperation.EngineRequestTimeout")
	add("minimax", minimax, PlaceBaseResp, Timeout, ScopeNone, "1001")
	add("grpc", grpcCodes, PlaceGRPC, Timeout, ScopeNone, "4")

	// It broke.
	add("anthropic", anthropic, PlaceAny, ServerError, ScopeNone, "api_error")
	add("openai", openai, PlaceAny, ServerError, ScopeNone, "server_error")
	add("gemini", google, PlaceAny, ServerError, ScopeNone, "INTERNAL")
	add("bedrock", bedrock, PlaceAny, ServerError, ScopeNone, "InternalServerException", "ModelStreamErrorException")
	add("minimax", minimax, PlaceBaseResp, ServerError, ScopeNone, "1000", "1013", "1024", "1033")
	add("grpc", grpcCodes, PlaceGRPC, ServerError, ScopeNone, "2", "13", "15")

	// This request will not do.
	add("minimax", minimax, PlaceBaseResp, ClientError, ScopeNone, "1004", "2013", "2049")
	add("grpc", grpcCodes, PlaceGRPC, ClientError, ScopeNone, "3", "5", "6", "7", "9", "11", "12", "16")
	add("grpc", grpcCodes, PlaceGRPC, ClientError, ScopeNone, "1", "10") // cancelled and aborted
	t[len(t)-1].Retryable, t[len(t)-2].Retryable = true, true

	// Codes that say "too much" and not of what.
	generic("anthropic", anthropic, PlaceAny, "rate_limit_error")
	generic("openai", openai, PlaceAny, "rate_limit_exceeded")
	generic("moonshot", moonshot, PlaceAny, "rate_limit_reached_error")
	generic("mistral", "Mistral, errors", PlaceAny, "rate_limited")
	generic("gemini", google, PlaceAny, "RESOURCE_EXHAUSTED")
	generic("xai", "xAI, users' reports", PlaceAny, "resource-exhausted")
	generic("bedrock", bedrock, PlaceAny, "ThrottlingException")
	generic("dashscope", dashscope, PlaceAny, "Throttling")
	generic("shopify", "Shopify, GraphQL rate limits", PlaceAny, "THROTTLED")
	generic("volcengine-ark", ark, PlaceAny, "TooManyRequests", "AccountRateLimitExceeded")
	generic("aws", "AWS service error codes", PlaceAny, "TooManyRequestsException")
	generic("dify", "Dify, errors", PlaceAny, "too_many_requests")
	generic("cerebras", "Cerebras, error codes", PlaceAny, "too_many_requests_error")
	generic("hunyuan", hunyuan, PlaceAny, "FailedOperation.EngineServerLimitExceeded")
	generic("qianfan", qianfanV1, PlaceErrorNumber, "4")
	generic("grpc", grpcCodes, PlaceGRPC, "8")
	generic("ietf", problems, PlaceProblem, "quota-exceeded", "abnormal-usage-detected")
	return t
}

// codeIndex finds the rows of codeTable by the code in lower case.
var codeIndex = func() map[string][]int {
	m := make(map[string][]int, len(codeTable))
	for i, c := range codeTable {
		k := strings.ToLower(c.Code)
		m[k] = append(m[k], i)
	}
	return m
}()

// foundCode is a code as an answer carries it.
type foundCode struct {
	place Place
	text  string // in lower case
	// number says that the code was not a string.
	number bool
}

// lookup returns the row that a found code has.
func (c foundCode) lookup() (*Code, bool) {
	for _, i := range codeIndex[c.text] {
		row := &codeTable[i]
		switch {
		case row.Place == PlaceAny && c.place != PlaceGRPC,
			row.Place == c.place && !(row.Place == PlaceErrorCode && c.number):
			return row, true
		}
	}
	return nil, false
}
