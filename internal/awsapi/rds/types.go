package rds

import "firedrill/internal/awsapi/wire"

// Filter narrows a list.
type Filter struct {
	Name   string
	Values []string `item:"Value"`
}

// DescribeDBInstancesInput says which instances are asked for; without a name all are.
type DescribeDBInstancesInput struct {
	DBInstanceIdentifier string
	Filters              []Filter `item:"Filter"`
	MaxRecords           *int
	Marker               string
}

// DescribeDBInstancesOutput is a page of instances.
type DescribeDBInstancesOutput struct {
	DBInstances []DBInstance `item:"DBInstance"`
	Marker      string       `json:",omitempty"`
}

// DBInstance is an instance, as far as it is known here.
type DBInstance struct {
	DBInstanceIdentifier      string
	Engine                    string
	DBInstanceStatus          string
	MasterUsername            string    `json:",omitempty"`
	DBName                    string    `json:",omitempty"`
	Endpoint                  *Endpoint `json:",omitempty"`
	AvailabilityZone          string    `json:",omitempty"`
	SecondaryAvailabilityZone string    `json:",omitempty"`
	MultiAZ                   bool
	BackupRetentionPeriod     int  // days; 0, as nothing here makes backups
	DeletionProtection        bool // nothing here can be deleted
	DBInstanceArn             string
}

// Endpoint is where clients connect. Amazon gives a name that is led elsewhere at a failover; here it is the address of the primary itself.
type Endpoint struct {
	Address string
	Port    int
}

// RebootDBInstanceInput says what is rebooted, and how.
type RebootDBInstanceInput struct {
	DBInstanceIdentifier string
	ForceFailover        bool
}

// RebootDBInstanceOutput is the instance as it is then.
type RebootDBInstanceOutput struct{ DBInstance DBInstance }

// DescribeEventsInput says which events are asked for: those of the last hour, unless it says otherwise.
type DescribeEventsInput struct {
	SourceIdentifier string
	SourceType       string
	StartTime        *wire.Time
	EndTime          *wire.Time
	Duration         *int     // minutes
	EventCategories  []string `item:"EventCategory"`
	Filters          []Filter `item:"Filter"`
	MaxRecords       *int
	Marker           string
}

// DescribeEventsOutput is a page of events, oldest first.
type DescribeEventsOutput struct {
	Events []Event `item:"Event"`
	Marker string  `json:",omitempty"`
}

// Event is what happened to an instance.
type Event struct {
	SourceIdentifier string
	SourceType       string
	Message          string
	EventCategories  []string `item:"EventCategory"`
	Date             wire.Time
	SourceArn        string `json:",omitempty"`
}
