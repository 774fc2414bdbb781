package awsapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"firedrill/internal/awsapi/recovery"
	"firedrill/internal/awsapi/wire"
)

// recoveryModel is the name of the data plane's model.
const recoveryModel = "com.amazonaws.route53recoverycluster"

// recoveryInput is the input of all operations of the data plane.
type recoveryInput struct {
	RoutingControlArn, RoutingControlState, ControlPanelArn string
	UpdateRoutingControlStateEntries                        []recovery.Entry
	SafetyRulesToOverride                                   []string
}

// recoveryCluster is the data plane: reading and switching controls.
func (h *Handler) recoveryCluster(w http.ResponseWriter, c call) {
	request, _ := wire.Of(c.Request, c.body)
	var in recoveryInput
	var out any
	err := request.Into(&in)
	if err != nil {
		err = &wire.Fault{Code: "ValidationException", Message: err.Error()}
	} else {
		switch request.Operation {
		case "GetRoutingControlState":
			var control recovery.Control
			control, err = h.Recovery.Control(in.RoutingControlArn)
			control.ControlPanelArn = ""
			out = control
		case "ListRoutingControls":
			out = map[string]any{"RoutingControls": h.Recovery.Controls(in.ControlPanelArn)}
		case "UpdateRoutingControlState":
			err = h.Recovery.Update([]recovery.Entry{{RoutingControlArn: in.RoutingControlArn, RoutingControlState: in.RoutingControlState}}, in.SafetyRulesToOverride)
		case "UpdateRoutingControlStates":
			err = h.Recovery.Update(in.UpdateRoutingControlStateEntries, in.SafetyRulesToOverride)
		default:
			err = &wire.Fault{Code: "UnknownOperationException", Message: "Could not find operation " + request.Operation + " on this endpoint."}
		}
	}
	if err != nil {
		request.Refuse(w, "", recoveryModel, c.id, h.faultOf(c, err))
		return
	}
	if err := request.Answer(w, "", c.id, out); err != nil {
		h.Log.Debug("answer not sent", "error", err)
	}
}

// recoveryControl is the part of the control plane that makes controls and rules.
func (h *Handler) recoveryControl(w http.ResponseWriter, c call) {
	var in struct {
		ControlPanelArn, RoutingControlName string
		AssertionRule, GatingRule           *recovery.Rule
	}
	var out any
	err := json.Unmarshal(c.body, &in)
	switch {
	case err != nil:
		err = &wire.Fault{Code: "ValidationException", Message: err.Error()}
	case c.Method == http.MethodPost && strings.Trim(c.URL.Path, "/") == "routingcontrol":
		var made recovery.Control
		made, err = h.Recovery.CreateControl(in.ControlPanelArn, in.RoutingControlName)
		out = map[string]any{"RoutingControl": map[string]string{
			"ControlPanelArn": made.ControlPanelArn, "RoutingControlArn": made.RoutingControlArn, "Name": made.RoutingControlName, "Status": "DEPLOYED",
		}}
	case c.Method == http.MethodPost && strings.Trim(c.URL.Path, "/") == "safetyrule" && (in.AssertionRule == nil) != (in.GatingRule == nil):
		if in.AssertionRule != nil {
			*in.AssertionRule, err = h.Recovery.CreateRule(*in.AssertionRule)
			out = map[string]any{"AssertionRule": in.AssertionRule}
		} else {
			*in.GatingRule, err = h.Recovery.CreateRule(*in.GatingRule)
			out = map[string]any{"GatingRule": in.GatingRule}
		}
	default:
		err = &wire.Fault{Code: "UnknownOperationException", Status: http.StatusNotFound, Message: c.Method + " " + c.URL.Path + " is no operation of this endpoint."}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", c.id)
	if err != nil {
		fault := h.faultOf(c, err)
		w.Header().Set("X-Amzn-Errortype", fault.Code)
		w.WriteHeader(fault.StatusCode())
		out = map[string]string{"message": fault.Message}
	}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		h.Log.Debug("answer not sent", "error", err)
	}
}
