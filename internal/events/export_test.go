package events

import "time"

// SetPatience replaces the time after which a silent subscription is checked. Call it before Run.
func (h *Hub) SetPatience(d time.Duration) { h.patience = d }
