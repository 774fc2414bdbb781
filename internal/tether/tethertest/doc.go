// Package tethertest runs tests in processes of their own.
//
// Its invariant: a test that did not pass in its process does not pass here.
//
// Start reading at Apart (apart.go).
package tethertest
