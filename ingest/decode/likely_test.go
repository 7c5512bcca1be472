package decode

import "testing"

// TestTheSettingOfAForeignCatalogueNamesItemAndTitle: and that of events names no title.
func TestTheSettingOfAForeignCatalogueNamesItemAndTitle(t *testing.T) {
	d := New(Default())
	if got := d.Mapping("items", []string{"SKU", "Product Name", "Brand", "In Stock"}); got != "kafka: {fields: {items: {item_id: SKU, title: 'Product Name'}}}" {
		t.Error(got)
	}
	if got := d.Mapping("events", []string{"Order No", "Customer Hash", "Article", "When", "Name"}); got != "kafka: {fields: {events: {user_id: 'Customer Hash', item_id: Article, timestamp: When}}}" {
		t.Error(got)
	}
}
