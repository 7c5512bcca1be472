// Package scalesim simulates a cluster that no machine here is large enough for, millisecond by millisecond.
//
// It promises equal reports for equal seeds, and that no event or parcel is lost or invented. Service times are measurements that a
// file can replace. It refuses a configuration that is out of range with a usage error that names the command's flag, and it ends a run
// whose queues grow without end. It measures nothing by itself and opens no network.
//
//	sim := scalesim.New(scalesim.Default(2000))
//	err := sim.Run(ctx, func(done, total int) {})
//	fmt.Print(sim.Report().Table())
package scalesim
