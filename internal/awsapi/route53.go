package awsapi

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"firedrill/internal/awsapi/route53"
	"firedrill/internal/awsapi/wire"
)

const (
	route53Version = "/2013-04-01/"
	itemsMax       = 100
	setsMax        = 300
)

// answered is what a REST operation says: a body, a status, and where what it made is found.
type answered struct {
	body     any
	status   int
	location string
}

func (h *Handler) route53(w http.ResponseWriter, c call) {
	rest, found := strings.CutPrefix(c.URL.Path, route53Version)
	parts := strings.Split(strings.Trim(rest, "/"), "/")
	var out answered
	err := error(&wire.Fault{Code: "UnknownOperationException", Status: http.StatusNotFound, Message: c.Method + " " + c.URL.Path + " is no operation of this endpoint."})
	if found {
		switch parts[0] {
		case "healthcheck", "healthcheckcount":
			out, err = h.healthChecks(c, parts, err)
		case "hostedzone", "hostedzonesbyname":
			out, err = h.hostedZones(c, parts, err)
		case "change":
			if len(parts) == 2 && c.Method == http.MethodGet {
				info, problem := h.Route53.GetChange(parts[1])
				out, err = answered{body: route53.ChangeResponse{XMLName: named("GetChangeResponse"), ChangeInfo: info}}, problem
			}
		case "testdnsanswer":
			query := c.URL.Query()
			body, problem := h.Route53.TestDNSAnswer(query.Get("hostedzoneid"), query.Get("recordname"), query.Get("recordtype"))
			out, err = answered{body: body}, problem
		}
	}
	if err != nil {
		wire.WriteXMLFault(w, route53.Namespace, c.id, h.faultOf(c, err))
		return
	}
	h.writeXML(w, c, out)
}

func named(operation string) xml.Name { return xml.Name{Space: route53.Namespace, Local: operation} }

func (h *Handler) writeXML(w http.ResponseWriter, c call, out answered) {
	if out.body == nil {
		out.body = struct{ XMLName xml.Name }{named("Response")}
	}
	text, err := xml.Marshal(out.body)
	if err != nil {
		wire.WriteXMLFault(w, route53.Namespace, c.id, h.faultOf(c, err))
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("X-Amzn-Requestid", c.id)
	if out.location != "" {
		w.Header().Set("Location", "https://"+c.Host+route53Version+strings.TrimPrefix(out.location, "/"))
	}
	if out.status != 0 {
		w.WriteHeader(out.status)
	}
	if _, err := w.Write(append([]byte(xml.Header), text...)); err != nil {
		h.Log.Debug("answer not sent", "error", err)
	}
}

// read reads the body of a request.
func (c call) read(into any) error {
	if err := xml.Unmarshal(c.body, into); err != nil {
		return &wire.Fault{Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema: " + err.Error()}
	}
	return nil
}

// items returns how many items a page is to have.
func (c call) items(most int) (int, error) {
	text := c.URL.Query().Get("maxitems")
	if text == "" {
		return most, nil
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 {
		return 0, &wire.Fault{Code: "InvalidInput", Message: "maxitems is " + text + "; write a number from 1"}
	}
	return min(count, most), nil
}

func (h *Handler) healthChecks(c call, parts []string, unknown error) (answered, error) {
	one := func(operation string, check route53.HealthCheck, err error) (answered, error) {
		return answered{body: route53.HealthCheckResponse{XMLName: named(operation + "Response"), HealthCheck: check}}, err
	}
	switch {
	case parts[0] == "healthcheckcount":
		count := len(h.Route53.ListHealthChecks("", 1<<20).HealthChecks)
		return answered{body: struct {
			XMLName          xml.Name
			HealthCheckCount int
		}{named("GetHealthCheckCountResponse"), count}}, nil
	case len(parts) == 1 && c.Method == http.MethodPost:
		var in route53.CreateHealthCheckRequest
		if err := c.read(&in); err != nil {
			return answered{}, err
		}
		check, err := h.Route53.CreateHealthCheck(in)
		out, err := one("CreateHealthCheck", check, err)
		out.status, out.location = http.StatusCreated, "healthcheck/"+check.Id
		return out, err
	case len(parts) == 1 && c.Method == http.MethodGet:
		most, err := c.items(itemsMax)
		return answered{body: h.Route53.ListHealthChecks(c.URL.Query().Get("marker"), most)}, err
	case len(parts) == 2 && c.Method == http.MethodGet:
		check, err := h.Route53.GetHealthCheck(parts[1])
		return one("GetHealthCheck", check, err)
	case len(parts) == 2 && c.Method == http.MethodPost:
		var in route53.UpdateHealthCheckRequest
		if err := c.read(&in); err != nil {
			return answered{}, err
		}
		check, err := h.Route53.UpdateHealthCheck(parts[1], in)
		return one("UpdateHealthCheck", check, err)
	case len(parts) == 2 && c.Method == http.MethodDelete:
		return answered{}, h.Route53.DeleteHealthCheck(parts[1])
	case len(parts) == 3 && parts[2] == "status" && c.Method == http.MethodGet:
		body, err := h.Route53.GetHealthCheckStatus(parts[1])
		return answered{body: body}, err
	}
	return answered{}, unknown
}

func (h *Handler) hostedZones(c call, parts []string, unknown error) (answered, error) {
	query := c.URL.Query()
	switch {
	case len(parts) == 1 && c.Method == http.MethodPost:
		var in route53.CreateHostedZoneRequest
		if err := c.read(&in); err != nil {
			return answered{}, err
		}
		zone, info, err := h.Route53.CreateHostedZone(in)
		body := route53.HostedZoneResponse{XMLName: named("CreateHostedZoneResponse"), HostedZone: zone, ChangeInfo: &info, DelegationSet: route53.Delegation()}
		return answered{body: body, status: http.StatusCreated, location: zone.Id}, err
	case len(parts) == 1 && c.Method == http.MethodGet:
		most, err := c.items(itemsMax)
		byName := parts[0] == "hostedzonesbyname"
		body := h.Route53.ListHostedZones(query.Get("marker"), query.Get("dnsname"), byName, max(1, most))
		body.XMLName = named("ListHostedZonesResponse")
		if byName {
			body.XMLName = named("ListHostedZonesByNameResponse")
		}
		return answered{body: body}, err
	case len(parts) == 2 && c.Method == http.MethodGet:
		zone, err := h.Route53.GetHostedZone(parts[1])
		return answered{body: route53.HostedZoneResponse{XMLName: named("GetHostedZoneResponse"), HostedZone: zone, DelegationSet: route53.Delegation()}}, err
	case len(parts) == 2 && c.Method == http.MethodDelete:
		info, err := h.Route53.DeleteHostedZone(parts[1])
		return answered{body: route53.ChangeResponse{XMLName: named("DeleteHostedZoneResponse"), ChangeInfo: info}}, err
	case len(parts) == 3 && parts[2] == "rrset" && c.Method == http.MethodPost:
		var in route53.ChangeResourceRecordSetsRequest
		if err := c.read(&in); err != nil {
			return answered{}, err
		}
		info, err := h.Route53.ChangeResourceRecordSets(parts[1], in)
		return answered{body: route53.ChangeResponse{XMLName: named("ChangeResourceRecordSetsResponse"), ChangeInfo: info}}, err
	case len(parts) == 3 && parts[2] == "rrset" && c.Method == http.MethodGet:
		most, err := c.items(setsMax)
		if err != nil {
			return answered{}, err
		}
		body, err := h.Route53.ListResourceRecordSets(parts[1], query.Get("name"), query.Get("type"), query.Get("identifier"), most)
		return answered{body: body}, err
	}
	return answered{}, unknown
}
