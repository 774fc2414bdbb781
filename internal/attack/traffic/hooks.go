package traffic

import "firedrill/internal/attack/nfqueue"

// Hooks let tests die in the middle, and plant bugs. The zero value changes nothing, and nothing but a test ever sets another one.
type Hooks struct {
	Step func(name string) // called before each durable effect

	NoOwner     bool // the table without the owner flag, as on an old kernel
	NoGate      bool // planted bug: drops do not hang on the gate
	NoSpare     bool // planted bug: spares are looked at after the drop
	PastEnd     bool // planted bug: the lease is renewed past the deadline
	PlainDrop   bool // planted bug: egress is dropped in the output hook, so senders see an error
	ResolveOnce bool // planted bug: what a name leads to later is not hit
	KeepTable   bool // planted bug: revert forgets the table
	NeverBites  bool // planted bug: the gate is never opened
	DropFirst   bool // planted bug: the chain that drops on lo dies first, and ports are kept
	AllOfThem   bool // planted bug: the share and the rate are not looked at: every packet is hit
	NoneOfThem  bool // planted bug: packets are counted and let pass
	WholeHost   bool // planted bug: the scope is not looked at
	NoReplies   bool // planted bug: what comes in for the scope's sockets is not told apart, and let pass
	ForgetHeld  bool // planted bug: flows that processes brought along are not known
	Scatter     bool // planted bug: processes that were gathered are left where they are
	Coin        bool // planted bug: a share of connections is decided for each packet
	TwoMinds    bool // planted bug: the two directions of a connection are decided apart
	NoRamp      bool // planted bug: the share is whole at once
	StuckRamp   bool // planted bug: the share never becomes whole
	Anonymous   bool // planted bug: hits are counted in total alone
	OwnRefusals bool // planted bug: our own refusals are refused on their way out

	Queue    nfqueue.Hooks // planted bugs of the queue
	KeepRoot bool          // planted bug: netem's disciplines are not deleted
}

func (h Hooks) mark(name string) {
	if h.Step != nil {
		h.Step(name)
	}
}
