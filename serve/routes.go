package serve

import "net/http"

// handle answers a request: it returns an error, or it writes once.
type handle func(w http.ResponseWriter, r *http.Request) error

// route is one line of the API.
type route struct {
	method, path string
	public       bool // answered without the token: it tells nothing of users or items
	heavy        bool // goes through the gate
	writes       bool // goes through the gate of events
	long         bool // takes as long as an answer of the LLM may; it has a gate of its own
	handle       handle
	operation
}

// operation is the part of the description that the code of a route does not tell. describe_test.go
// writes openapi.json from it, and adds the answers of the guards in wrap.
type operation struct {
	id      string // operationId: one word, unlike every other
	summary string
	note    string // a second paragraph
	query   []parameter
	body    any         // a value of the type that the handler reads; nil: no body
	also    []mediaBody // other forms of the body than application/json
	example string      // a body that is answered, as JSON
	done    statuses    // of the answer; nil: 200
	answer  any         // a value of the type that the handler writes; a string: a media type, or several after commas
	streams bool        // the answer may come in parts, as server-sent events
	fails   []int       // statuses of the handler itself, beside those of the guards
}

// parameter is a parameter of the query.
type parameter struct {
	name, about string
	kind        any    // a value of its type
	bounds      string // as in an api tag; see package openapi
}

// statuses are those of an answer, and what each says.
type statuses map[int]string

// learntOrThere is of events that may be waited for.
var learntOrThere = statuses{
	http.StatusOK:       "with wait=learnt: the next list is made with them",
	http.StatusAccepted: "the broker has them",
}

// mediaBody is a body of another media type.
type mediaBody struct {
	media string
	body  any
}

// Parameters that several routes have.
var (
	pageSize  = parameter{"n", "items of a page; default 10", 0, "min=1;max=candidates"}
	timeSpan  = parameter{"window", "the time that is looked at, as 90m, 24h, 7d or 2w, up to ten years", "", "pattern=^[1-9][0-9]{0,6}[mhdw]$"}
	allowed   = parameter{"allow", "FIELD:VALUE, as often as needed: an item must have one of the values of each field", []string{}, fieldValues}
	denied    = parameter{"deny", "FIELD:VALUE, as often as needed: an item must have none of these", []string{}, fieldValues}
	nextPage  = parameter{"cursor", "of the page before: the next page of the same list, with n alone", "", "max=cursor"}
	forLearnt = parameter{waitParameter, "learnt: answer when the next list is made with the events", "", "enum=learnt"}
	browseAll = []parameter{pageSize, timeSpan, allowed, denied, nextPage}
)

const fieldValues = "max=fields;each.pattern=^[^:]+:.+$;each.max=512"

func (s *Server) routes() []route {
	return []route{
		{method: "POST", path: "/v1/recommend", heavy: true, handle: s.recommend, operation: operation{
			id: "recommend", summary: "Recommend items to a user",
			body: RecommendRequest{}, example: `{"user_id":"196","n":5}`, answer: RecommendResponse{}, fails: []int{400, 410, 501},
		}},
		{method: "POST", path: "/v1/score", heavy: true, handle: s.score, operation: operation{
			id: "score", summary: "Score items for a user, or texts over label tokens",
			body: ScoreRequest{}, example: `{"user_id":"196","items":["242",{"text":"Heat (1995)"}]}`, answer: ScoreResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "POST", path: "/v1/rerank", heavy: true, handle: s.rerank, operation: operation{
			id: "rerank", summary: "Rank documents for a user, as Jina's and Cohere's clients ask",
			body: RerankRequest{}, example: `{"query":"196","documents":["242","302"],"top_n":1}`, answer: RerankResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "POST", path: "/v2/rerank", heavy: true, handle: s.rerank, operation: operation{
			id: "rerank2", summary: "The same as /v1/rerank, where Cohere's newer client asks",
			body: RerankRequest{}, example: `{"query":"196","documents":["242","302"],"top_n":1}`, answer: RerankResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "POST", path: "/v1/events", writes: true, handle: s.events, operation: operation{
			id: "events", summary: "Send events; answered when the broker has all of them",
			query: []parameter{forLearnt},
			body:  eventList{}, also: eventForms(), example: `{"user_id":"196","item_id":"242","kind":"click"}`,
			done: learntOrThere, answer: accepted{}, fails: []int{400, 501},
		}},
		{method: "GET", path: "/v1/popular", heavy: true, handle: s.popular, operation: operation{
			id: "popular", summary: "Items that are liked most",
			note:  "Likes count with the half-life that lies nearest to window; without a window all count alike.",
			query: browseAll, answer: ListResponse{}, fails: []int{400, 410, 501},
		}},
		{method: "GET", path: "/v1/trending", heavy: true, handle: s.trending, operation: operation{
			id: "trending", summary: "Items that are liked more than before",
			note:  "The likes of the window, a day by default, against what the next longer half-life would bring.",
			query: browseAll, answer: ListResponse{}, fails: []int{400, 410, 501},
		}},
		{method: "GET", path: "/v1/latest", heavy: true, handle: s.latest, operation: operation{
			id: "latest", summary: "Items that came last",
			note:  "An item comes with its first catalogue record or event. A window leaves out items that were first taken before it.",
			query: browseAll, answer: ListResponse{}, fails: []int{400, 410, 501},
		}},
		{method: "GET", path: "/v1/users/{id}", handle: s.user, operation: operation{
			id: "user", summary: "A user's state: history, taste and recommendations that went out",
			answer: UserResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "PUT", path: "/v1/users/{id}", writes: true, handle: s.label, operation: operation{
			id: "label", summary: "Set a user's labels: an event, which counts as every other",
			note:  "A user without history is listed what users with the same labels take.",
			query: []parameter{forLearnt}, body: UserLabels{}, example: `{"labels":["student"]}`,
			done: learntOrThere, answer: accepted{}, fails: []int{400, 501},
		}},
		{method: "DELETE", path: "/v1/users/{id}", writes: true, handle: s.erase, operation: operation{
			id: "erase", summary: "Forget a user: vectors, history, ids and debts",
			note:  "What the log holds of the user until now is never learnt again. What item vectors learnt from the user stays in them.",
			query: []parameter{{"data", "refuse with 409 unless the state is in this folder", "", ""}}, answer: erased{}, fails: []int{400, 409, 501},
		}},
		{method: "GET", path: "/v1/users/{id}/similar", heavy: true, handle: s.similarUsers, operation: operation{
			id: "similarUsers", summary: "Users of like taste",
			query: []parameter{{"n", "users; default 10", 0, pageSize.bounds}}, answer: SimilarUsersResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "GET", path: "/v1/users/{id}/events", handle: s.userEvents, operation: operation{
			id: "userEvents", summary: "The events of a user that the store keeps",
			query:  []parameter{{"n", "events of a page; default 100", 0, pageSize.bounds}, {"cursor", "of the page before", "", "pattern=^[0-9]{1,9}$"}},
			answer: UserEventsResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "DELETE", path: "/v1/users/{id}/events", writes: true, handle: s.takeBack, operation: operation{
			id: "takeBack", summary: "Take back what a user did with an item: an event of type retract",
			query: []parameter{{"item_id", "the item", ident(""), "required"}, forLearnt},
			done:  learntOrThere, answer: accepted{}, fails: []int{400, 501},
		}},
		{method: "POST", path: "/v1/users/{id}/merge", writes: true, handle: s.mergeSession, operation: operation{
			id: "merge", summary: "Make what somebody did before logging in the user's own",
			note:  "The events of the session are produced again under the user. A second merge of the same session is dropped as a duplicate.",
			query: []parameter{forLearnt},
			body:  MergeRequest{}, example: `{"from":"session-81c2"}`, done: learntOrThere, answer: accepted{}, fails: []int{400, 501},
		}},
		{method: "GET", path: "/v1/users", heavy: true, handle: s.users, operation: operation{
			id: "users", summary: "Users, in the order of their ids",
			query:  []parameter{{"q", "the beginning of an id", "", "max=256"}, {"n", "users of a page; default 10", 0, pageSize.bounds}, {"cursor", "of the page before", "", "max=256"}},
			answer: UsersResponse{}, fails: []int{400, 501},
		}},
		{method: "GET", path: "/v1/items", heavy: true, handle: s.items, operation: operation{
			id: "items", summary: "The catalogue, in the order in which items first came",
			note:   "A search looks through 20,000 items for one page: a page may be empty and have a next one.",
			query:  []parameter{{"q", "a part of a title or id", "", "max=256"}, pageSize, {"cursor", "of the page before", "", "pattern=^[0-9]{1,9}$"}},
			answer: ItemsResponse{}, fails: []int{400, 501},
		}},
		{method: "POST", path: "/v1/items", writes: true, handle: s.putItems, operation: operation{
			id: "putItems", summary: "Send catalogue records; answered when the broker has all of them",
			query: []parameter{forLearnt},
			body:  itemList{}, also: []mediaBody{{"application/x-ndjson", record{}}}, example: `{"item_id":"242","title":"Kolya (1996)","genre":"comedy"}`,
			done: learntOrThere, answer: accepted{}, fails: []int{400, 501},
		}},
		{method: "PATCH", path: "/v1/items/{id}", writes: true, handle: s.changeItem, operation: operation{
			id: "changeItem", summary: "Change an item's title or fields, hide it from lists, or bring it back",
			query: []parameter{forLearnt}, body: ItemPatch{}, example: `{"withdrawn":true}`,
			done: learntOrThere, answer: accepted{}, fails: []int{400, 404, 501},
		}},
		{method: "DELETE", path: "/v1/items/{id}", writes: true, handle: s.removeItem, operation: operation{
			id: "removeItem", summary: "Remove an item: it is not listed any more, and its title is forgotten",
			query: []parameter{forLearnt}, done: learntOrThere, answer: accepted{}, fails: []int{400, 501},
		}},
		{method: "GET", path: "/v1/items/{id}", handle: s.item, operation: operation{
			id: "item", summary: "An item's state, and the items like it",
			answer: ItemResponse{}, fails: []int{400, 404, 501},
		}},
		{method: "GET", path: "/v1/items/{id}/similar", heavy: true, handle: s.similarItems, operation: operation{
			id: "similarItems", summary: "Items that go with an item",
			note:  "Items that are taken near it come first, then items with a title like its own.",
			query: []parameter{pageSize, allowed, denied, nextPage}, answer: ListResponse{}, fails: []int{400, 404, 410, 501},
		}},
		{method: "GET", path: "/v1/dead-letters", heavy: true, handle: s.letters, operation: operation{
			id: "deadLetters", summary: "The newest records that could not be used, from the dead-letter topic",
			query: []parameter{{"n", "letters; default 10", 0, pageSize.bounds}}, answer: LettersResponse{}, fails: []int{400, 501},
		}},
		{method: "POST", path: "/v1/dead-letters/resend", writes: true, handle: s.resend, operation: operation{
			id: "resend", summary: "Send a dead letter's record again to the topic that it came from, as it was",
			note: "Once each. A record that still can not be used comes back as a new letter.",
			body: ResendRequest{}, example: `{"id":"0-17"}`, answer: ResendResponse{}, fails: []int{400, 404, 409, 501},
		}},
		{method: "POST", path: "/v1/validate", handle: s.validate, operation: operation{
			id: "validate", summary: "Look through a file of events or a catalogue: what it holds, what would go wrong, what to set",
			note:  "As corastream validate does, with the configuration in use. The file may have 16 MiB. Nothing of it is learnt or kept.",
			query: []parameter{{"name", "the file's name; .jsonl and .json are JSON, anything else is a table", "", "max=id"}},
			body:  eventList{}, also: []mediaBody{{"text/csv", dataFile("")}, {"application/x-ndjson", event{}}, {"application/octet-stream", dataFile("")}},
			example: `[{"user_id":"196","item_id":"242","type":"click"}]`, answer: Survey{}, fails: []int{400, 501, 503, 504},
		}},
		{method: "GET", path: "/v1/adapters/{user}", heavy: true, handle: s.adapter, operation: operation{
			id: "adapter", summary: "A user's weights as a LoRA adapter: the files of a PEFT folder, with README.md and corastream.json, in a zip",
			query: []parameter{
				{"item", "the pair's own weights, which give this server's score; without it the user's part, without the item's bias", ident(""), ""},
				{"base", "the base model's name in adapter_config.json", ident(""), ""},
				{"gguf", "with adapter.gguf for llama.cpp", false, ""},
			},
			answer: "application/zip", fails: []int{400, 404, 501},
		}},
		{method: "POST", path: "/v1/chat/completions", long: true, handle: s.chat, operation: operation{
			id: "chat", summary: "Go on with a conversation, as OpenAI's clients ask, with a user's weights merged in or without",
			body: ChatRequest{}, example: `{"messages":[{"role":"user","content":"Name a film."}],"max_tokens":8,"temperature":0}`,
			answer: ChatResponse{}, streams: true, fails: []int{400, 404, 501},
		}},
		{method: "GET", path: "/v1/models", handle: s.models, operation: operation{
			id: "models", summary: "The LLM and the checkpoints", answer: modelList{},
		}},
		{method: "GET", path: "/v1/models/{model}", handle: s.model, operation: operation{
			id: "model", summary: "One of them; base:USER is one too", answer: modelLine{}, fails: []int{404},
		}},
		{method: "GET", path: "/v1/rollout", handle: s.rollout, operation: operation{
			id: "rollout", summary: "How a new checkpoint's trial stands", answer: RolloutStatus{}, fails: []int{501},
		}},
		{method: "GET", path: "/v1/status", handle: s.status, operation: operation{
			id: "status", summary: "Live numbers, as the dashboard shows them", answer: StatusResponse{},
		}},
		{method: "GET", path: "/metrics", handle: s.metricsPage, operation: operation{id: "metrics", summary: "Prometheus metrics", answer: "text/plain"}},
		{method: "GET", path: "/healthz", public: true, handle: s.healthz, operation: operation{id: "healthz", summary: "The process runs", answer: health{}}},
		{method: "GET", path: "/readyz", public: true, handle: s.readyz, operation: operation{
			id: "readyz", summary: "Whether to send work here", answer: readiness{}, fails: []int{503},
		}},
		{method: "GET", path: "/openapi.json", public: true, handle: s.openAPI, operation: operation{id: "openapi", summary: "This description", answer: "application/json"}},
		{method: "GET", path: "/{$}", public: true, handle: s.page, operation: operation{id: "dashboard", summary: "The dashboard", answer: "text/html"}},
		{method: "GET", path: "/items", public: true, handle: s.page, operation: operation{id: "itemsPage", summary: "The dashboard's search of the catalogue", answer: "text/html"}},
		{method: "GET", path: "/users", public: true, handle: s.page, operation: operation{id: "usersPage", summary: "The dashboard's search of users", answer: "text/html"}},
		{method: "GET", path: "/lists", public: true, handle: s.page, operation: operation{id: "listsPage", summary: "The dashboard's lists for everybody", answer: "text/html"}},
		{method: "GET", path: "/data", public: true, handle: s.page, operation: operation{id: "dataPage", summary: "The dashboard's dead letters, and its look through a file", answer: "text/html"}},
		{method: "GET", path: "/users/{id}", public: true, handle: s.page, operation: operation{
			id: "userPage", summary: "The dashboard's page of a user; 404 when it is not known", answer: "text/html", fails: []int{404},
		}},
		{method: "GET", path: "/items/{id}", public: true, handle: s.page, operation: operation{
			id: "itemPage", summary: "The dashboard's page of an item; 404 when it is not known", answer: "text/html", fails: []int{404},
		}},
		{method: "GET", path: "/assets/{file}", public: true, handle: s.asset, operation: operation{
			id: "asset", summary: "A file of the dashboard", answer: "text/javascript,text/css", fails: []int{404, 304},
		}},
	}
}

// adminRoutes are the routes of the admin address, besides profiles. A route that changes
// something asks for the token, where there is one. The main address describes the routes that
// both have.
func (s *Server) adminRoutes() []route {
	return []route{
		{method: "GET", path: "/metrics", public: true, handle: s.metricsPage},
		{method: "GET", path: "/healthz", public: true, handle: s.healthz},
		{method: "GET", path: "/readyz", public: true, handle: s.readyz},
		{method: "GET", path: "/v1/rollout", public: true, handle: s.rollout},
		{method: "POST", path: "/v1/rollout", handle: s.rollout, operation: operation{
			id: "changeRollout", summary: "Shadow, canary, promote or roll back",
			note: "On the admin address alone (http.admin_listen), which only the server's own machine reaches: whoever may ask for recommendations may not change who gets which. The main address answers 405.",
			body: RolloutRequest{}, example: `{"action":"canary","checkpoint":"new.safetensors","share":0.05}`,
			answer: RolloutStatus{}, fails: []int{400, 405, 501},
		}},
	}
}
