package feedback

import (
	"strconv"
	"strings"
	"time"
)

// GRPCStatus is how a gRPC call ended, in plain values, so that this package need not
// import gRPC.
type GRPCStatus struct {
	// Code is the status code: 0 is OK. Codes above 16 are unknown errors.
	Code uint32
	// Message is the status message.
	Message string
	// RetryDelay is google.rpc.RetryInfo's retry_delay; it counts when HasRetryDelay is set. A
	// negative one is ignored.
	RetryDelay    time.Duration
	HasRetryDelay bool
	// Pushback is the values of the trailer grpc-retry-pushback-ms.
	Pushback []string
	// Reasons are the reasons of google.rpc.ErrorInfo.
	Reasons []string
	// QuotaIDs are the quota ids of google.rpc.QuotaFailure; a server that leaves quota_id empty has
	// them in subject or description.
	QuotaIDs []string
	// Now, Provider and Rules are as in Answer. A rule's Status is not compared with Code.
	Now      time.Time
	Provider string
	Rules    *Rules
}

// FromGRPC returns what a gRPC status means, by the rules of Parse: codes before wording,
// pushback before RetryInfo before a sentence. A pushback that is negative or unreadable
// asks not to retry at all.
func FromGRPC(g GRPCStatus) Signal {
	if g.Code == 0 {
		return Signal{}
	}
	var f fields
	if len(g.Pushback) > 0 {
		f.pushback.add("grpc-retry-pushback-ms", g.Pushback)
	}
	e := evidence{
		inOK: true, sentStatus: 200, provider: g.Provider, rules: g.Rules,
		document: document{text: normalize(g.Message), aliyun: strings.Contains(g.Message, "help.aliyun.com")},
	}
	e.codes = append(e.codes, foundCode{place: PlaceGRPC, text: strconv.FormatUint(uint64(g.Code), 10)})
	for _, r := range g.Reasons {
		e.codes = append(e.codes, foundCode{place: PlaceAny, text: strings.ToLower(r)})
	}
	for _, id := range g.QuotaIDs[:min(len(g.QuotaIDs), maxStated)] {
		e.quotas = append(e.quotas, quota{words: splitWords(id)})
	}
	if g.HasRetryDelay && g.RetryDelay >= 0 {
		e.retryInfo, e.hasRetryInfo = ceilMilli(uint64(g.RetryDelay)), true
	}
	return e.signal(&f, &clock{now: instantOf(g.Now)})
}
