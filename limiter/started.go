package limiter

import (
	"time"

	"github.com/flyball-go/flyball/internal/admission"
)

// Started returns when the call started; ok is false when that was not timed (Config.TimeOneIn), which
// means that it did not wait. The permit must be held.
func (p *Permit) Started() (at time.Time, ok bool) {
	sent := p.ticket.At
	if sent == admission.Untimed {
		return time.Time{}, false
	}
	return p.guard.base.Add(sent), true
}

// Started returns when the call started; see Permit.Started.
func (kp *KeyPermit) Started() (at time.Time, ok bool) { return kp.permit.Started() }
