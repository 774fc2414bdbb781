package awsapi

import (
	"context"
	"net/http"

	"firedrill/internal/awsapi/wire"
)

const rdsNamespace = "http://rds.amazonaws.com/doc/2014-10-31/"

// with reads the input of an operation of RDS and carries it out.
func with[In, Out any](ctx context.Context, region string, r wire.Request, do func(context.Context, string, In) (Out, error)) (any, error) {
	var in In
	if err := r.Into(&in); err != nil {
		return nil, &wire.Fault{Code: "InvalidParameterValue", Message: err.Error()}
	}
	return do(ctx, region, in)
}

func (h *Handler) rds(w http.ResponseWriter, c call) {
	request, _ := wire.Of(c.Request, c.body)
	ctx, region := c.Context(), c.scope.Region
	var out any
	err := error(&wire.Fault{Code: "InvalidAction", Message: "Could not find operation " + request.Operation + " on this endpoint."})
	if request.Protocol == wire.Query { // the only one that RDS speaks
		switch request.Operation {
		case "DescribeDBInstances":
			out, err = with(ctx, region, request, h.RDS.DescribeDBInstances)
		case "RebootDBInstance":
			out, err = with(ctx, region, request, h.RDS.RebootDBInstance)
		case "DescribeEvents":
			out, err = with(ctx, region, request, h.RDS.DescribeEvents)
		}
	}
	if err != nil {
		request.Refuse(w, rdsNamespace, "", c.id, h.faultOf(c, err))
		return
	}
	if err := request.Answer(w, rdsNamespace, c.id, out); err != nil {
		h.Log.Debug("answer not sent", "error", err)
	}
}
