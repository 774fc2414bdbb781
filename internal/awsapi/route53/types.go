package route53

import (
	"encoding/xml"

	"firedrill/internal/awsapi/cloudwatch"
	"firedrill/internal/awsapi/wire"
)

// Namespace is the XML namespace of the API.
const Namespace = "https://route53.amazonaws.com/doc/2013-04-01/"

// The shapes of the API that are served. Field names are those of the API.
type (
	// AlarmIdentifier names an alarm of CloudWatch.
	AlarmIdentifier struct{ Region, Name string }

	// HealthCheckConfig is what a health check does.
	HealthCheckConfig struct {
		IPAddress                    string           `xml:",omitempty"`
		Port                         *int             `xml:",omitempty"`
		Type                         string           `xml:",omitempty"`
		ResourcePath                 string           `xml:",omitempty"`
		FullyQualifiedDomainName     string           `xml:",omitempty"`
		SearchString                 string           `xml:",omitempty"`
		RequestInterval              *int             `xml:",omitempty"`
		FailureThreshold             *int             `xml:",omitempty"`
		MeasureLatency               *bool            `xml:",omitempty"`
		Inverted                     *bool            `xml:",omitempty"`
		Disabled                     *bool            `xml:",omitempty"`
		HealthThreshold              *int             `xml:",omitempty"`
		ChildHealthChecks            []string         `xml:"ChildHealthChecks>ChildHealthCheck,omitempty"`
		EnableSNI                    *bool            `xml:",omitempty"`
		Regions                      []string         `xml:"Regions>Region,omitempty"`
		AlarmIdentifier              *AlarmIdentifier `xml:",omitempty"`
		InsufficientDataHealthStatus string           `xml:",omitempty"`
		RoutingControlArn            string           `xml:",omitempty"`
	}

	// HealthCheck is a health check.
	HealthCheck struct {
		Id                           string //nolint:revive // the API's name
		CallerReference              string
		HealthCheckConfig            HealthCheckConfig
		HealthCheckVersion           int
		CloudWatchAlarmConfiguration *cloudwatch.Configuration `xml:",omitempty"`
	}

	// CreateHealthCheckRequest is the body of CreateHealthCheck.
	CreateHealthCheckRequest struct {
		CallerReference   string
		HealthCheckConfig HealthCheckConfig
	}

	// UpdateHealthCheckRequest is the body of UpdateHealthCheck; what is not in it stays.
	UpdateHealthCheckRequest struct {
		HealthCheckVersion *int
		HealthCheckConfig
		ResetElements []string `xml:"ResetElements>ResettableElementName"`
	}

	// HealthCheckResponse is the answer to all that return one check; its name is set by the operation.
	HealthCheckResponse struct {
		XMLName     xml.Name
		HealthCheck HealthCheck
	}

	// ListHealthChecksResponse is a page of checks.
	ListHealthChecksResponse struct {
		HealthChecks []HealthCheck `xml:"HealthChecks>HealthCheck"`
		Marker       string
		IsTruncated  bool
		NextMarker   string `xml:",omitempty"`
		MaxItems     int
	}

	// StatusReport is what one checker saw.
	StatusReport struct {
		Status      string
		CheckedTime *wire.Time
	}

	// HealthCheckObservation is one checker with what it saw.
	HealthCheckObservation struct {
		Region       string
		IPAddress    string
		StatusReport StatusReport
	}

	// GetHealthCheckStatusResponse is what all checkers saw.
	GetHealthCheckStatusResponse struct {
		HealthCheckObservations []HealthCheckObservation `xml:"HealthCheckObservations>HealthCheckObservation"`
	}

	// HostedZoneConfig says more of a zone.
	HostedZoneConfig struct {
		Comment     string `xml:",omitempty"`
		PrivateZone bool
	}

	// HostedZone is a zone.
	HostedZone struct {
		Id                     string //nolint:revive // the API's name
		Name                   string
		CallerReference        string
		Config                 HostedZoneConfig
		ResourceRecordSetCount int
	}

	// CreateHostedZoneRequest is the body of CreateHostedZone.
	CreateHostedZoneRequest struct {
		Name, CallerReference string
		HostedZoneConfig      HostedZoneConfig
		VPC                   *struct{ VPCId string }
	}

	// DelegationSet names the servers of a zone.
	DelegationSet struct {
		NameServers []string `xml:"NameServers>NameServer"`
	}

	// ChangeInfo says how far a change has come.
	ChangeInfo struct {
		Id          string //nolint:revive // the API's name
		Status      string
		SubmittedAt *wire.Time
		Comment     string `xml:",omitempty"`
	}

	// HostedZoneResponse is the answer to all that return one zone.
	HostedZoneResponse struct {
		XMLName       xml.Name
		HostedZone    HostedZone
		ChangeInfo    *ChangeInfo `xml:",omitempty"`
		DelegationSet DelegationSet
	}

	// ListHostedZonesResponse is a page of zones; of both ways to list them.
	ListHostedZonesResponse struct {
		XMLName          xml.Name
		HostedZones      []HostedZone `xml:"HostedZones>HostedZone"`
		DNSName          string       `xml:",omitempty"`
		Marker           string       `xml:",omitempty"`
		IsTruncated      bool
		NextMarker       string `xml:",omitempty"`
		NextDNSName      string `xml:",omitempty"`
		NextHostedZoneId string `xml:",omitempty"` //nolint:revive // the API's name
		MaxItems         int
	}

	// ResourceRecord is one value.
	ResourceRecord struct{ Value string }

	// AliasTarget is another set of records, which is answered instead.
	AliasTarget struct {
		HostedZoneId         string //nolint:revive // the API's name
		DNSName              string
		EvaluateTargetHealth bool
	}

	// ResourceRecordSet is one of the sets for a name and type.
	ResourceRecordSet struct {
		Name             string
		Type             string
		SetIdentifier    string           `xml:",omitempty"`
		Weight           *int             `xml:",omitempty"`
		Region           string           `xml:",omitempty"`
		GeoLocation      *struct{}        `xml:",omitempty"`
		Failover         string           `xml:",omitempty"`
		MultiValueAnswer *bool            `xml:",omitempty"`
		TTL              *int64           `xml:",omitempty"`
		ResourceRecords  []ResourceRecord `xml:"ResourceRecords>ResourceRecord,omitempty"`
		AliasTarget      *AliasTarget     `xml:",omitempty"`
		HealthCheckId    string           `xml:",omitempty"` //nolint:revive // the API's name
	}

	// Change is one change of a batch.
	Change struct {
		Action            string
		ResourceRecordSet ResourceRecordSet
	}

	// ChangeResourceRecordSetsRequest is a batch: all of it, or none.
	ChangeResourceRecordSetsRequest struct {
		ChangeBatch struct {
			Comment string
			Changes []Change `xml:"Changes>Change"`
		}
	}

	// ChangeResponse is the answer to what makes or shows a change.
	ChangeResponse struct {
		XMLName    xml.Name
		ChangeInfo ChangeInfo
	}

	// ListResourceRecordSetsResponse is a page of record sets.
	ListResourceRecordSetsResponse struct {
		ResourceRecordSets   []ResourceRecordSet `xml:"ResourceRecordSets>ResourceRecordSet"`
		IsTruncated          bool
		NextRecordName       string `xml:",omitempty"`
		NextRecordType       string `xml:",omitempty"`
		NextRecordIdentifier string `xml:",omitempty"`
		MaxItems             int
	}

	// TestDNSAnswerResponse is what a name server answers now.
	TestDNSAnswerResponse struct {
		Nameserver   string
		RecordName   string
		RecordType   string
		RecordData   []string `xml:"RecordData>RecordDataEntry"`
		ResponseCode string
		Protocol     string
	}
)
