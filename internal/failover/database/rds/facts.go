package rds

import (
	"context"
	"net/netip"

	"github.com/aws/aws-sdk-go-v2/aws"

	"firedrill/internal/lint"
)

// Facts is what RDS says of the instance, for the look for traps, and where its name leads. Nothing is changed, and nobody logs in to it.
func (d *Driver) Facts(ctx context.Context) (lint.Instance, error) {
	one, err := d.said(ctx)
	if err != nil {
		return lint.Instance{}, err
	}
	found := lint.Instance{
		Name: d.options.Instance, Status: aws.ToString(one.DBInstanceStatus), MultiAZ: aws.ToBool(one.MultiAZ), Standby: aws.ToString(one.SecondaryAvailabilityZone),
		Protected: one.DeletionProtection, Replica: aws.ToString(one.ReadReplicaSourceDBInstanceIdentifier),
	}
	if one.BackupRetentionPeriod != nil {
		days := int(*one.BackupRetentionPeriod)
		found.Backups = &days
	}
	if one.Endpoint == nil {
		return found, nil
	}
	found.Endpoint = aws.ToString(one.Endpoint.Address)
	addresses, err := d.options.Lookup(ctx, found.Endpoint)
	if err != nil {
		return found, nil //nolint:nilerr // from here the name may not be known; then only what needs its address is not looked at
	}
	for _, a := range addresses {
		if address, ok := netip.AddrFromSlice(a.IP); ok {
			found.Addresses = append(found.Addresses, address.Unmap())
		}
	}
	return found, nil
}
